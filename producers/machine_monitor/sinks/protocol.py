"""What whoever takes events promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Sink(Protocol):
    """Takes one event after the other."""

    @property
    def kind(self) -> str:
        """For metrics: `http` or `broker`."""
        ...

    async def send(self, machine_id: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Return once the event is safe on the other side.

        Raises `Rejected` when it will never be taken, `Retryable` when it may or may not have been taken: sending it
        again is harmless.
        """
        ...
