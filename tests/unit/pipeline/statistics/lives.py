"""Lives of machines, for the statistics' tests."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from pipeline.statistics.ledger import Ledger
from pipeline.statistics.observation import Observation
from pipeline.statistics.tally import Rules
from schemas.fleet_stats import WHOLE_FLEET, FleetStats
from schemas.health import FAULTS, Health

RULES = Rules()
MINUTE = RULES.window_ms
T0 = 1_772_366_400_000
"""2026-03-01T12:00:00Z, the start of a window."""


def seen(
    machine_id: str, version: int, at_s: float, health: Health | None, pool: str = "Lab", **more: bool
) -> Observation:
    """A change so many seconds after `T0`."""
    faulty = more.get("is_faulty", health in FAULTS)
    return Observation(machine_id, version, T0 + round(at_s * 1000), health, faulty, pool)


def read(*changes: Observation, rules: Rules = RULES) -> Ledger:
    """A ledger that has read these changes."""
    ledger = Ledger.beginning(rules, at=T0)
    for change in changes:
        ledger.apply(change)
    return ledger


def told(ledger: Ledger, windows: int) -> list[dict[str, FleetStats]]:
    """The first windows: pool to what is told of it."""
    until = ledger.floor + windows * ledger.rules.window_ms
    return [{each.pool: each for each in stats} for _, stats in ledger.due(until)]


def fleet(ledger: Ledger, window: int = 0) -> FleetStats:
    """What is told of the whole fleet in one window."""
    return told(ledger, window + 1)[window][WHOLE_FLEET]


def fleet_window(*changes: Observation) -> list[FleetStats]:
    """What is told of the window in which these changes came: the whole fleet first."""
    ((_, stats),) = read(*changes).due(T0 + MINUTE)
    return stats


@st.composite
def lives(draw: st.DrawFn) -> list[list[Observation]]:
    """For each machine its changes, in order."""
    healths = st.sampled_from([*Health, None])
    found = []
    for number in range(draw(st.integers(1, 5))):
        steps = draw(
            st.lists(
                st.tuples(st.integers(0, 90_000), healths, st.sampled_from(["Lab", "Phones"])), max_size=12
            )
        )
        at, life = T0, []
        for version, (pause, health, pool) in enumerate(steps, 1):
            at += pause
            observed = Observation(f"m{number}", version, at, health, health in FAULTS, pool)
            life.append(observed if health is not None else replace(observed, pool=""))
        found.append(life)
    return found
