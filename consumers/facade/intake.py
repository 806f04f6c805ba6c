"""Takes machines' events over HTTP and hands them to the broker as they came: checked, but not written anew."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pydantic import ValidationError

from consumers.facade.auth import Access, require
from consumers.facade.bodies import valid_machine_id
from consumers.facade.tokens import Caller
from pipeline import metrics
from pipeline.broker.protocol import Broker, Outgoing
from pipeline.errors import LabkeeperError
from schemas import envelope
from schemas.event import Event
from schemas.topics import MACHINE_EVENTS

_LARGE: Final = 1 << 17
"""Events from here on are checked on a thread: a hostile one may take half a second."""

_trace_parent = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Intake:
    """Where events come in."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def take(self, body: bytes, caller: Caller, trace_parent: str | None) -> None:
        """Return once the broker has the event safe.

        Raises `pydantic.ValidationError` or `Refusal` naming the field, and `BrokerUnavailable`.
        """
        with _counted():
            machine_id = await _machine_of(body)
            require(Access.REPORT, caller, machine_id)
            traced = trace_parent is not None and _trace_parent.fullmatch(trace_parent) is not None
            headers = envelope.metadata(
                envelope.EVENT_TYPE, "/facade", trace_parent=trace_parent if traced else None
            )
            await self._broker.publish([Outgoing(MACHINE_EVENTS, machine_id, body, headers)])


async def _machine_of(body: bytes) -> str:
    read = Event.model_validate_json
    event = read(body) if len(body) < _LARGE else await asyncio.to_thread(read, body)
    return valid_machine_id(event.host.name, "host.name")


@contextmanager
def _counted() -> Iterator[None]:
    try:
        yield
    except (LabkeeperError, ValidationError):
        metrics.EVENTS_REFUSED.labels("http").inc()
        raise
    metrics.EVENTS_RECEIVED.labels("http").inc()
