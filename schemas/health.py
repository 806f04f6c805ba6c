"""In which state a machine is: one rule for the command line and the statistics. The web page spells it in JavaScript."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from schemas.description import Description


class Health(StrEnum):
    """States, from worst to best. A machine can be in several at once; `available` excludes all the others but `busy`."""

    DOWN = "down"
    """Silent."""
    QUARANTINED = "quarantined"
    """Forced by a task; ended by a person."""
    MAINTENANCE = "maintenance"
    """Taken out of service by a person."""
    RECOVERING = "recovering"
    """Too hot, too empty, or just lost its device: it comes back by itself."""
    BUSY = "busy"
    """A Swarming task runs, or work is requested. Not an obstacle to `available`."""
    AVAILABLE = "available"


ABLE: Final = frozenset({Health.AVAILABLE, Health.BUSY})
"""Worst states in which tasks may run."""
FAULTS: Final = frozenset({Health.DOWN, Health.QUARANTINED, Health.RECOVERING})
"""States that nobody wished for; maintenance is somebody's wish."""


def states_of(machine: Description) -> tuple[Health, ...]:
    """Every state that holds, worst first; never empty."""
    holds = (
        (Health.DOWN, machine.is_down),
        (Health.QUARANTINED, machine.is_quarantined),
        (Health.MAINTENANCE, machine.in_maintenance),
        (Health.RECOVERING, machine.is_recovering),
        (Health.BUSY, machine.is_busy),
    )
    return tuple(state for state, held in holds if held) or (Health.AVAILABLE,)
