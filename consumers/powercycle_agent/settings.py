"""Settings of the powercycle agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from consumers.powercycle_agent.switching import Patience

LEASE_S: Final = 30.0
SHORTEST_LEASE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Who we are, and how often what is done."""

    name: str
    """Of the rack or site. Two processes of one name stand in for each other."""
    state_dir: Path
    """Journal and locks. The `powercycle` command of this host uses the same."""
    lease: timedelta = timedelta(seconds=LEASE_S)
    """A process that has not been heard of for so long is taken for dead, and another of its name takes over."""
    probe_every: timedelta = timedelta(minutes=2)
    """How often each controller is asked whether it answers, and its machines are reported."""
    probe_owing_every: timedelta = timedelta(seconds=15)
    """The same for one that keeps a port off against our will."""
    probe_limit: timedelta = timedelta(seconds=20)
    pending_every: timedelta = timedelta(minutes=1)
    """How often all pending commands are asked for: whatever was not heard is made up for so."""
    handover: timedelta = timedelta(seconds=2)
    """How long the lease is kept after the last step was delivered: whoever comes next must find it in the store."""
    reload_every: timedelta = timedelta(seconds=1)
    """How often the configuration is looked at."""
    patience: Patience = field(default_factory=Patience)

    @property
    def journal(self) -> Path:
        """The journal's directory."""
        return self.state_dir / "journal"

    @property
    def locks(self) -> Path:
        """The locks' directory."""
        return self.state_dir / "locks"
