"""From the bytes of `machine.events` to changes of Descriptions. Pure; the hot path begins here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import ValidationError

from consumers.description_writer.settings import MAX_EVENT_BYTES
from pipeline.broker.protocol import Received
from pipeline.processor.process import process
from pipeline.processor.transition import Transition
from schemas.description import Description
from schemas.event import Event
from schemas.ids import MACHINE_ID_RULE
from schemas.wire import ZERO_TIME, explain, to_milliseconds


class EventChange:
    """One event, ready to be applied inside a transaction, as often as it takes.

    `outcome` is what the latest attempt came to: after the commit it is what happened.
    """

    __slots__ = ("_event", "_now", "machine_id", "message", "outcome")

    def __init__(self, message: Received, event: Event, now: datetime) -> None:
        self.message = message
        self.machine_id = event.host.name
        self.outcome: Transition | None = None
        self._event = event
        self._now = now

    def __call__(self, before: Description) -> Description:
        """The broker's time of the event counts as now, so that a replay of the topic comes to the same state."""
        self.outcome = process(before, self._event, now=self._now)
        return self.outcome.after


def decode_all(
    messages: Sequence[Received], *, max_bytes: int = MAX_EVENT_BYTES
) -> tuple[list[EventChange], list[tuple[Received, str]]]:
    """Events that can be applied, in order, and messages that cannot, with a reason that names the field."""
    changes: list[EventChange] = []
    rejected: list[tuple[Received, str]] = []
    published_at, now = None, ZERO_TIME
    for message in messages:
        if message.published_at is not published_at:  # those that were published together share it
            published_at = message.published_at
            now = to_milliseconds(published_at)
        if len(message.value) > max_bytes:
            rejected.append((message, f"body: larger than {max_bytes} bytes"))
            continue
        try:
            event = Event.model_validate_json(message.value)
        except ValidationError as error:
            rejected.append((message, explain(error)))
            continue
        if event.host.name:
            changes.append(EventChange(message, event, now))
        else:
            rejected.append((message, f"host.name: missing; a machine id has {MACHINE_ID_RULE}"))
    return changes, rejected
