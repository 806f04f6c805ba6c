"""One window of one pool, added up: machine by machine, part by part, and window by window. Pure.

Adding is the same in any order and grouping, so partitions, workers and pools can be counted apart and put together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from pipeline.statistics.durations import quantile_s
from pipeline.statistics.record import STATES, Record, Span
from schemas.fleet_stats import MAX_FLAPPING, WHOLE_FLEET, FlappingMachine, FleetStats
from schemas.health import ABLE, Health

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Rules:
    """How windows are cut and what counts as flapping."""

    window: timedelta = timedelta(minutes=1)
    flapping_turns: int = 4
    """A machine that failed or came back more often than this ..."""
    flapping_span: timedelta = timedelta(minutes=30)
    """... within so long before the window's end is flapping."""

    @property
    def window_ms(self) -> int:
        """A window's length."""
        return self.window // _MILLISECOND

    @property
    def flapping_span_ms(self) -> int:
        """The same in milliseconds."""
        return self.flapping_span // _MILLISECOND


@dataclass(slots=True)
class Tally:
    """What is counted."""

    machines: Counter[Health] = field(default_factory=Counter)
    """At the window's end, by state."""
    spent: Counter[Health] = field(default_factory=Counter)
    """Machine-milliseconds, by state."""
    changes: int = 0
    recoveries: Counter[int] = field(default_factory=Counter)
    """By bucket of duration."""
    flapping: dict[str, int] = field(default_factory=dict)
    """Machine to how often it failed or came back."""

    def add(self, other: Tally) -> None:
        """Add another part of the same window."""
        self.machines.update(other.machines)
        self.spent.update(other.spent)
        self.changes += other.changes
        self.recoveries.update(other.recoveries)
        self.flapping.update(other.flapping)


def tallies(records: Iterable[tuple[str, Record]], start: int, rules: Rules) -> dict[str, Tally]:
    """Pool to what these machines did in the window that starts then; the whole fleet is among the pools."""
    counted: dict[str, Tally] = {}
    for machine_id, record in records:
        span = record.span_of(start)
        if span is not None and span.pool and not span.is_gone(start):
            tally = counted.get(span.pool) or counted.setdefault(span.pool, Tally())
            _count(tally, machine_id, span, start, rules)
    return counted


def _count(tally: Tally, machine_id: str, span: Span, start: int, rules: Rules) -> None:
    end = start + rules.window_ms
    if span.start == start:
        spent = span.spent_until(end)
        tally.spent.update({state: spent[number] for number, state in enumerate(STATES) if spent[number]})
        tally.changes += span.changes
        tally.recoveries.update(dict(span.recoveries))
    elif span.health is not None:
        tally.spent[span.health] += rules.window_ms
    if span.health is not None:
        tally.machines[span.health] += 1
    turns = sum(end - rules.flapping_span_ms <= at < end for at in span.turns)
    if turns > rules.flapping_turns:
        tally.flapping[machine_id] = turns


def merged(parts: Iterable[Mapping[str, Tally]]) -> dict[str, Tally]:
    """The parts of a window together, with the whole fleet as one more pool."""
    whole = Tally()
    together = {WHOLE_FLEET: whole}
    for part in parts:
        for pool, tally in part.items():
            together.setdefault(pool, Tally()).add(tally)
            whole.add(tally)
    return together


def stats_of(tally: Tally, pool: str, start: int, rules: Rules) -> FleetStats:
    """As it is told."""
    begin = _EPOCH + start * _MILLISECOND
    window_s = rules.window.total_seconds()
    recoveries = tally.recoveries.total()
    worst = sorted(tally.flapping.items(), key=lambda each: (-each[1], each[0]))
    return FleetStats(
        pool=pool,
        window_start=begin,
        window_end=begin + rules.window,
        machines=tally.machines.total(),
        machines_by_state={state: tally.machines[state] for state in Health},
        seconds_by_state={state: tally.spent[state] / 1000 for state in Health},
        availability_percent=availability(tally.spent),
        changes=tally.changes,
        changes_per_second=round(tally.changes / window_s, 3),
        recoveries=recoveries,
        recoveries_per_hour=round(recoveries * 3600 / window_s, 3),
        recovery_p50_s=quantile_s(tally.recoveries, 0.5),
        recovery_p95_s=quantile_s(tally.recoveries, 0.95),
        recovery_counts={str(bucket): count for bucket, count in sorted(tally.recoveries.items())},
        flapping=[FlappingMachine(id=name, changes=turns) for name, turns in worst[:MAX_FLAPPING]],
        flapping_total=len(worst),
    )


def availability(spent: Mapping[Health, float]) -> float | None:
    """Percent of the time in which tasks may run; None for no time at all."""
    total = sum(spent.values())
    if not total:
        return None
    return round(100 * sum(spent.get(state, 0) for state in ABLE) / total, 3)


def combined(windows: list[FleetStats]) -> FleetStats:
    """Windows of one pool that follow one another, oldest first, as one.

    What flows is added up; what stands (machines, their states, who is flapping) is as it was in the last of them.
    """
    if len(windows) == 1:
        return windows[0]
    spent: Counter[Health] = Counter()  # of seconds, here
    counts: Counter[int] = Counter()
    for each in windows:
        spent.update(each.seconds_by_state)
        counts.update({int(bucket): count for bucket, count in each.recovery_counts.items()})
    changes = sum(each.changes for each in windows)
    seconds = sum((each.window_end - each.window_start).total_seconds() for each in windows)
    recoveries = counts.total()
    return windows[-1].model_copy(
        update={
            "window_start": windows[0].window_start,
            "seconds_by_state": {state: round(spent[state], 3) for state in Health},
            "availability_percent": availability(spent),
            "changes": changes,
            "changes_per_second": round(changes / seconds, 3),
            "recoveries": recoveries,
            "recoveries_per_hour": round(recoveries * 3600 / seconds, 3),
            "recovery_p50_s": quantile_s(counts, 0.5),
            "recovery_p95_s": quantile_s(counts, 0.95),
            "recovery_counts": {str(bucket): count for bucket, count in sorted(counts.items())},
        }
    )
