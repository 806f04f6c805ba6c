"""What self-healing knows when it decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pipeline.processor.recovery import AUTOMATIC_USER, is_device_missing
from schemas.description import Description
from schemas.power import PowerAction, PowerOutlet, PowerRecord, PowerStatus

HEALER: Final = AUTOMATIC_USER
"""Who orders power cycles for self-healing."""
RACK: Final = "rack"
"""Dimension that names a machine's rack."""
LONGEST_COMMAND: Final = timedelta(minutes=30)
"""From an order to its end at most, with the wait for an agent and the time the power is off."""
_NOT_SWITCHED: Final = frozenset({PowerStatus.REFUSED, PowerStatus.CANCELLED})
_SWITCHED_OFF: Final = frozenset({PowerStatus.DONE.value, PowerStatus.FAILED.value})
"""Of an order to switch off. One that failed may have switched, and whoever gave it did not want power there."""
_UNDERWAY: Final = timedelta(minutes=1)
"""How long after its power went a machine's last report may still come in."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a machine would be cycled."""

    since: datetime
    words: str
    """`silent`, or which device has gone missing."""


def trouble_of(machine: Description) -> Trouble | None:
    """What is wrong with a machine that a power cycle may mend; None: nothing."""
    lost = is_device_missing(machine.recovering)
    if not machine.is_down:
        return Trouble(machine.recovery_start, machine.recovering) if lost else None
    since = min(machine.down_since, machine.recovery_start) if lost else machine.down_since
    return Trouble(since, "silent")


def rack_of(machine: Description, outlet: PowerOutlet | None) -> str:
    """The rack of a machine that gets its power there; empty: there is no telling."""
    named = machine.dimension(RACK)
    if named:
        return named[0]
    return "" if outlet is None else outlet.controller


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine with what was done to its power."""

    id: str
    description: Description
    records: Sequence[PowerRecord] = ()
    """Its commands, newest first, as far back as the longest window reaches."""
    outlet: PowerOutlet | None = None
    """None: no agent has told of it."""
    pools: Sequence[str] = field(init=False)
    """The pools it is in."""
    rack: str = field(init=False)
    """Its rack: the dimension, else its power controller. Those with neither count as one rack, the empty one."""
    trouble: Trouble | None = field(init=False)
    """See `trouble_of`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pools", self.description.dimension("pool"))
        object.__setattr__(self, "rack", rack_of(self.description, self.outlet))
        object.__setattr__(self, "trouble", trouble_of(self.description))

    @property
    def pending(self) -> PowerRecord | None:
        """A command that has not ended."""
        return next((record for record in self.records if record.status.is_pending), None)

    @property
    def last_order(self) -> PowerRecord | None:
        """The newest power cycle that self-healing ordered."""
        return next(filter(_is_ours, self.records), None)

    def orders(self, *, since: datetime) -> list[PowerRecord]:
        """Power cycles that self-healing ordered after then, newest first, whatever became of them."""
        return [record for record in self.records if _is_ours(record) and record.command.requested_at > since]

    @property
    def persons_try(self) -> PowerRecord | None:
        """The newest command that somebody else gave, unless nothing was switched."""
        return next((each for each in self.records if not _is_ours(each) and may_have_switched(each)), None)

    def is_switched_off(self, *, known_since: datetime) -> bool:
        """Whether it was to be off by the last order for its power, and has not been heard since.

        `known_since`: an order that `records` lacks is older.
        """
        about = self.description
        if about.power_action != PowerAction.OFF.value or about.power_status not in _SWITCHED_OFF:
            return False
        orders = (each for each in self.records if each.command.action is PowerAction.OFF)
        order = next(filter(may_have_switched, orders), None)
        return about.last_updated <= (known_since if order is None else ended_at(order) + _UNDERWAY)

    def is_back_since(self, moment: datetime) -> bool:
        """Whether it is well, and has said so after that moment."""
        return self.trouble is None and self.description.last_updated > moment


def _is_ours(record: PowerRecord) -> bool:
    return record.command.who == HEALER and record.command.action is PowerAction.CYCLE


def may_have_switched(record: PowerRecord) -> bool:
    """Whether the machine's power was, or may yet be, driven. An order that nobody answered counts: who knows."""
    return record.status not in _NOT_SWITCHED


def ended_at(record: PowerRecord) -> datetime:
    """When a command took its last step. The clock of its agent may be wrong: within what a command can take."""
    ordered = record.command.requested_at
    last = max((step.at for step in record.steps), default=ordered)
    return min(max(ordered, last), ordered + LONGEST_COMMAND)


@dataclass(frozen=True, slots=True)
class Totals:
    """How many machines there are, well or not."""

    machines: int = 0
    pools: Mapping[str, int] = field(default_factory=dict)
    racks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """The lab: every machine in trouble, with a command of the last windows, or with a text of self-healing's."""

    machines: Sequence[Machine]
    totals: Totals
    deaf: str = ""
    """Why machines' silence means nothing now: the service that is away. Empty: we hear."""
