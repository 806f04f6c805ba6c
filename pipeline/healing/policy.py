"""What self-healing may do to the machines of a pool. Values, and which of them hold for a machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

EVERY_POOL: Final = "*"
"""The entry for pools that have none of their own."""
LEAST_OUTAGE: Final = 3
"""Fewer machines than that may be lost together by chance, whatever share of a small rack they are."""
_MOST_DOUBLINGS: Final = 60
"""Pauses have long reached their limit by then; the number must stay a number."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules for one pool."""

    enabled: bool = True
    dry_run: bool = False
    """Only say what would be done."""
    after: timedelta = timedelta(minutes=10)
    """A machine must have been in trouble for so long."""
    attempts: int = 3
    """At most so many power cycles of a machine in any `window`."""
    window: timedelta = timedelta(days=1)
    pause: timedelta = timedelta(minutes=10)
    """How long a machine has to come back before it is tried again; grows by `factor` with each try in the window."""
    factor: float = 2.0
    longest_pause: timedelta = timedelta(hours=4)
    pool_percent: float = 5.0
    """At most this share of the pool is being cycled at once; one machine always may be."""
    rack_machines: int = 2
    """At most so many machines of a rack are being cycled at once."""
    stale_task_after: timedelta = timedelta(hours=2)
    """For so long after a machine fell silent the task that it ran counts as running."""

    def pause_after(self, tries: int) -> timedelta:
        """The pause behind the latest of so many tries."""
        grown = self.pause.total_seconds() * self.factor ** min(max(tries, 1) - 1, _MOST_DOUBLINGS)
        return timedelta(seconds=min(grown, self.longest_pause.total_seconds()))

    def most_of_pool(self, machines: int) -> int:
        """How many machines of a pool of this size may be cycled at once."""
        return max(1, int(machines * self.pool_percent / 100))


@dataclass(frozen=True, slots=True)
class Policies:
    """The rules of the whole lab. As it is made here, self-healing is off."""

    pools: Mapping[str, Policy] = field(default_factory=dict)
    """By pool; `EVERY_POOL` for those that have no entry."""
    lab_percent: float = 20.0
    """When more than this share of the fleet was lost together, nothing is cycled; of a rack: nothing of that rack."""
    outage_span: timedelta = timedelta(minutes=5)
    """Machines lost within so short a time were lost together."""

    @property
    def is_off(self) -> bool:
        """Whether no pool has a policy."""
        return not any(policy.enabled for policy in self.pools.values())

    @property
    def longest_window(self) -> timedelta:
        """How far back commands matter."""
        return max((policy.window for policy in self.pools.values()), default=timedelta(0))

    def of_pool(self, pool: str) -> Policy | None:
        """The rules for a pool; None: there are none."""
        policy = self.pools.get(pool, self.pools.get(EVERY_POOL))
        return policy if policy is not None and policy.enabled else None

    def of_machine(self, pools: Sequence[str]) -> Policy | None:
        """The rules for a machine of these pools: those of the first with an entry of its own. All its pools must have some."""
        if len(pools) == 1:
            return self.of_pool(pools[0])
        rules = [self.of_pool(pool) for pool in pools]
        if not rules or None in rules:
            return None
        named = [rule for pool, rule in zip(pools, rules, strict=True) if pool in self.pools]
        return (named or rules)[0]
