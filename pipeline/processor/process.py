"""What an event does to a machine. Pure: the outcome depends on the arguments alone, and they are never changed.

Metrics, logs and the rules that hold for every row (see `normalize`) are the caller's business.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from pipeline.processor.device_dimensions import with_reported
from pipeline.processor.readings import read
from pipeline.processor.recovery import recovery
from pipeline.processor.swarming_bot import DEVICE_KIND as SWARMING
from pipeline.processor.swarming_bot import has_monitor, told_by_swarming
from pipeline.processor.transition import Transition
from schemas.description import Description
from schemas.event import RAW_STATE, SWARMING_BOT, Event
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
    is_bot = event.type == SWARMING_BOT and event.swarming is not None
    if not is_bot and event.type != RAW_STATE:
        return Transition(before, unknown_type=True)
    if is_bot and has_monitor(before):
        return Transition(before)
    counts = event.sequence is not None and event.host.start_time - now <= _CLOCK_TOLERANCE
    if _is_replay(before, event) if counts else _is_late(before, now):
        return Transition(before, replayed=True)
    changed = _by_bot(before, event, now) if is_bot else _by_monitor(before, event, now)
    if counts:
        changed["monitor_start"] = event.host.start_time
        changed["monitor_sequence"] = event.sequence
    return Transition(before.evolve(changed))


def _by_bot(before: Description, event: Event, now: datetime) -> dict[str, object]:
    assert event.swarming is not None
    return told_by_swarming(before, event.swarming, event.host.name, now=now)


def _by_monitor(before: Description, event: Event, now: datetime) -> dict[str, object]:
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
    return changed


def _is_replay(before: Description, event: Event) -> bool:
    """Whether this event, or one that the same monitor run sent later, has been applied."""
    if event.sequence is None or before.monitor_sequence < 0:
        return False  # nothing to compare
    if (before.device_kind == SWARMING) != (event.type == SWARMING_BOT):
        return False  # the poller of a Swarming server counted so far, and not this monitor
    applied = (before.monitor_start, before.monitor_sequence)
    return (event.host.start_time, event.sequence) <= applied


def _is_late(before: Description, now: datetime) -> bool:
    """Whether the broker took this event, which no sequence tells apart, before the last one that was applied.

    Then it is read again after a crash, or by a writer that was given up and has woken up: the row must not go back.
    """
    return before.row_version > 0 and now < before.last_updated <= now + _LATENESS
