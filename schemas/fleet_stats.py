"""How a fleet did in one span of time: `FleetStats`, the value of `fleet.stats`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import ConfigDict, Field

from schemas.health import Health
from schemas.ids import MachineId
from schemas.wire import Float, Int64, Time, WireModel

WHOLE_FLEET: Final = "*"
"""In place of a pool: all machines. No pool can be called so."""

MAX_FLAPPING: Final = 20
"""So many flapping machines are named; the rest is only counted."""

_Count = Annotated[Int64, Field(ge=0)]
_Seconds = Annotated[Float, Field(ge=0)]


class FlappingMachine(WireModel):
    """A machine that keeps failing and coming back."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: MachineId
    changes: _Count
    """How often it failed or came back in the half hour (`flapping_span_s`) before the window's end; at most 20 are told."""


class FleetStats(WireModel):
    """One pool, or the whole fleet, in one window of time.

    Of two messages about the same pool and `window_start` the later one replaces the earlier: they are made again after a
    crash. A machine is in its worst state: down, quarantined, maintenance, recovering, busy, available. It counts for the
    pool in which it was at the window's end. Time is that of the broker when it took the change.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    pool: str
    """Name of the pool; `*`: the whole fleet."""
    window_start: Time
    """The window includes this moment ..."""
    window_end: Time
    """... and ends just before this one."""
    machines: _Count
    """How many there were at the window's end."""
    machines_by_state: dict[Health, _Count]
    """The same, by state; a state without machines has 0."""
    seconds_by_state: dict[Health, _Seconds]
    """Machine-seconds spent in each state within the window."""
    availability_percent: Float | None = None
    """Of all machine-seconds, the share in which tasks may run (available or busy), 0 to 100; null without machines."""
    changes: _Count
    """Versions of machines' rows that were told in the window: reports, operators' actions, deletions; repeats do not
    count."""
    changes_per_second: _Seconds
    """`changes` by the window's length."""
    recoveries: _Count
    """How often a machine that had failed (down, quarantined or recovering) could run tasks again."""
    recoveries_per_hour: _Seconds
    """`recoveries` by the window's length in hours."""
    recovery_p50_s: _Seconds | None = None
    """Median of the seconds from failing to running tasks again, of the window's recoveries; within 5 %. Maintenance in
    between counts as well. Null without recoveries."""
    recovery_p95_s: _Seconds | None = None
    """The same, 95th percentile."""
    recovery_counts: dict[str, _Count] = Field(default_factory=dict)
    """The recoveries by duration, so that windows can be added up: key n counts those above 1.1^(n-1) and up to 1.1^n
    seconds; key 0 those up to one second."""
    flapping: list[FlappingMachine] = Field(default_factory=list)
    """Machines that failed or came back too often of late, the worst first; at most 20 are named."""
    flapping_total: _Count = 0
    """How many there are."""


def by_state(values: Mapping[Health, int | float]) -> dict[Health, int | float]:
    """The values with a zero for each state that is missing, in the usual order."""
    return {state: values.get(state, 0) for state in Health}
