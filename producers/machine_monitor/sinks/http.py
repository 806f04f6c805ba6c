"""Sends events to the façade."""

from __future__ import annotations

from collections.abc import Mapping

from producers.machine_monitor.facade import Facade


class HttpSink:
    """Posts each event. Its headers stay here: the façade writes the message, and its metadata."""

    kind = "http"

    def __init__(self, facade: Facade) -> None:
        self._facade = facade

    async def send(self, machine_id: str, body: bytes, headers: Mapping[str, str]) -> None:  # noqa: ARG002
        await self._facade.post_event(body)
