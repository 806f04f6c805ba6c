"""What a controller is given to do, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from consumers.powercycle_agent.journal import Entry
from schemas.power import PowerCommand, PowerRecord


@dataclass(frozen=True, slots=True)
class Order:
    """A new command."""

    command: PowerCommand


@dataclass(frozen=True, slots=True)
class TakeOver:
    """A command that an agent began that is gone."""

    record: PowerRecord
    restores: bool = False
    """Only see to it that the port is on."""

    @property
    def command(self) -> PowerCommand:
        """What was asked for."""
        return self.record.command


@dataclass(frozen=True, slots=True)
class Resume:
    """A command from our journal."""

    entry: Entry
    is_wanted: bool
    """The lab waits for its end."""

    @property
    def command(self) -> PowerCommand:
        """What was asked for."""
        return self.entry.command


Job = Order | TakeOver | Resume
