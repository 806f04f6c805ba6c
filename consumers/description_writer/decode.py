"""From the bytes of `machine.events` to changes of Descriptions. Pure; the hot path begins here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import ValidationError

from pipeline.broker.protocol import Received
from pipeline.errors import Rejected
from pipeline.processor.process import process
from pipeline.processor.transition import Transition
from schemas.description import Description
from schemas.event import Event
from schemas.ids import MACHINE_ID_RULE
from schemas.wire import explain, to_milliseconds


class EventChange:
    """One event, ready to be applied inside a transaction, as often as it takes.

    `outcome` is what the latest attempt came to: after the commit it is what happened.
    """

    __slots__ = ("_event", "_now", "message", "outcome")

    def __init__(self, message: Received, event: Event) -> None:
        self.message = message
        self._event = event
        self._now: datetime = to_milliseconds(message.published_at)
        self.outcome: Transition | None = None

    @property
    def machine_id(self) -> str:
        return self._event.host.name

    def __call__(self, before: Description) -> Description:
        """The broker's time of the event counts as now, so that a replay of the topic comes to the same state."""
        self.outcome = process(before, self._event, now=self._now)
        return self.outcome.after


def decode(message: Received) -> EventChange:
    """Read one message; raises `Rejected` with a reason that names the field."""
    try:
        event = Event.model_validate_json(message.value)
    except ValidationError as error:
        raise Rejected(explain(error)) from error
    if not event.host.name:
        raise Rejected(f"host.name: missing; a machine id has {MACHINE_ID_RULE}")
    return EventChange(message, event)


def decode_all(messages: Sequence[Received]) -> tuple[list[EventChange], list[tuple[Received, str]]]:
    """Events that can be applied, in order, and messages that cannot, with the reason."""
    changes: list[EventChange] = []
    rejected: list[tuple[Received, str]] = []
    for message in messages:
        try:
            changes.append(decode(message))
        except Rejected as error:
            rejected.append((message, str(error)))
    return changes, rejected
