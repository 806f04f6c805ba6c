"""Settings of the simulator."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """The lab that is pretended."""

    machines: int = 200
    period: timedelta = timedelta(seconds=30)
    """How often each machine reports, as real monitors do."""
    seed: int = 1
    """Names the lab: the same machines, living the same lives."""


@dataclass(frozen=True, slots=True)
class FacadeAccess:
    """A façade, and who we are to it."""

    url: str
    """Without a slash at the end."""
    token: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What proves who we are."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
