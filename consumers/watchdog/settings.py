"""Settings of the watchdog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

LEASE: Final = "watchdog"
MISSED_PERIODS: Final = 3
"""A machine is down when it has been silent for longer than so many of its reporting periods."""


@dataclass(frozen=True, slots=True)
class WatchdogSettings:
    """How long silence may last."""

    period: timedelta = timedelta(seconds=30)
    """How often a machine reports, unless its pool says otherwise."""
    period_of_pool: Mapping[str, timedelta] = field(default_factory=dict)
    check_every: timedelta = timedelta(seconds=5)
    keep_history: timedelta = timedelta(days=90)
    heal_every: timedelta = timedelta(seconds=15)

    def patience(self, pools: list[str]) -> timedelta:
        """How long a machine of these pools may be silent: the longest that any of them grants."""
        periods = [self.period_of_pool[pool] for pool in pools if pool in self.period_of_pool]
        return MISSED_PERIODS * max(periods, default=self.period)

    @property
    def least_patience(self) -> timedelta:
        """No machine is down before this."""
        return MISSED_PERIODS * min((self.period, *self.period_of_pool.values()))
