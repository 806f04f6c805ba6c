"""What an event does to a machine. Pure: the outcome depends on the arguments alone, and they are never changed.

Metrics, logs and the rules that hold for every row (see `normalize`) are the caller's business.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from pipeline.processor.device_dimensions import with_reported
from pipeline.processor.readings import read
from pipeline.processor.recovery import recovery
from pipeline.processor.transition import Transition
from schemas.description import Description
from schemas.event import RAW_STATE, Event
from schemas.wire import ZERO_TIME

_CLOCK_TOLERANCE: Final = timedelta(hours=1)
"""A monitor run that began later than that from now has a wrong clock. If its start time were remembered, the machine's
events would count as replays once the clock is right: such a run's sequences are not looked at."""
_LATENESS: Final = timedelta(minutes=5)
"""How late an event without a sequence is recognized. Longer, and a broker's clock that is set back would silence old
clients for longer."""


def process(before: Description, event: Event, *, now: datetime) -> Transition:
    """Decide what `event` does to `before`. Never raises; safe to run again when a transaction is retried.

    Maps, lists and annotations that do not change are shared between both.
    """
    if event.type != RAW_STATE:
        return Transition(before, unknown_type=True)
    counts = event.sequence is not None and event.host.start_time - now <= _CLOCK_TOLERANCE
    if _is_replay(before, event) if counts else _is_late(before, now):
        return Transition(before, replayed=True)
    kind = event.device_kind
    reading = read(before, event, kind)
    changed: dict[str, object] = {
        **reading.fields,
        "dimensions": with_reported(
            before, kind, {**reading.dimensions, "tmm_version": [event.host.version]}
        ),
        "last_updated": now,
        "down_since": ZERO_TIME,
        "running_swarming_task": event.running_swarming_task,
        "launched_swarming": event.launched_swarming,
        "version": event.host.version,
    }
    if kind is not None:
        changed["device_kind"] = kind
    if reading.reason is None:
        changed["recovering"] = ""
    else:
        changed.update(recovery(before, reading.reason, now=now))
    if event.forced_quarantine:
        changed["is_quarantined"] = True
    if before.supplied_dimensions is None:
        changed["supplied_dimensions"] = {}
    if counts:
        changed["monitor_start"] = event.host.start_time
        changed["monitor_sequence"] = event.sequence
    return Transition(before.evolve(changed))


def _is_replay(before: Description, event: Event) -> bool:
    """Whether this event, or one that the same monitor run sent later, has been applied."""
    if event.sequence is None or before.monitor_sequence < 0:
        return False  # nothing to compare
    applied = (before.monitor_start, before.monitor_sequence)
    return (event.host.start_time, event.sequence) <= applied


def _is_late(before: Description, now: datetime) -> bool:
    """Whether the broker took this event, which no sequence tells apart, before the last one that was applied.

    Then it is read again after a crash, or by a writer that was given up and has woken up: the row must not go back.
    """
    return before.row_version > 0 and now < before.last_updated <= now + _LATENESS
