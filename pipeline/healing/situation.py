"""How the lab as a whole is: what was lost together, and how many machines are being cycled in each pool and rack."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pipeline.healing.policy import LEAST_OUTAGE, Policies, Policy
from pipeline.healing.view import Machine, View, ended_at, may_have_switched


@dataclass(slots=True)
class Occupied:
    """Machines that are being cycled."""

    pools: Counter[str] = field(default_factory=Counter)
    racks: Counter[str] = field(default_factory=Counter)

    def add(self, machine: Machine) -> None:
        """One more."""
        self.pools.update(machine.pools)
        self.racks[machine.rack] += 1


@dataclass(frozen=True, slots=True)
class Situation:
    """What the bounds of the lab are judged by."""

    policies: Policies
    view: View
    lab_outage: bool
    rack_outages: frozenset[str]
    occupied: Occupied
    """Counts what is ordered in this round, too."""
    rehearsed: Occupied
    """The same, with what dry runs would have ordered."""

    @classmethod
    def of(cls, view: View, policies: Policies, now: datetime) -> Situation:
        """Look at the lab."""
        lab_outage, rack_outages = _outages(view, policies)
        situation = cls(policies, view, lab_outage, rack_outages, Occupied(), Occupied())
        for machine in view.machines:
            if is_under_way(machine, policies.of_machine(machine.pools), now):
                situation.take(machine, rehearsal=False)
        return situation

    def take(self, machine: Machine, *, rehearsal: bool) -> None:
        """Count a machine that is about to be cycled."""
        self.rehearsed.add(machine)
        if not rehearsal:
            self.occupied.add(machine)

    def full_pool(self, machine: Machine, policy: Policy) -> tuple[str, int] | None:
        """A pool of the machine's, of which as many are being cycled as may be, and how many that is."""
        occupied = self.rehearsed if policy.dry_run else self.occupied
        for pool in machine.pools:
            most = (self.policies.of_pool(pool) or policy).most_of_pool(self.view.totals.pools.get(pool, 0))
            if occupied.pools[pool] >= most:
                return pool, most
        return None

    def is_rack_full(self, machine: Machine, policy: Policy) -> bool:
        """Whether as many machines of its rack are being cycled as may be."""
        occupied = self.rehearsed if policy.dry_run else self.occupied
        return occupied.racks[machine.rack] >= policy.rack_machines


def is_under_way(machine: Machine, policy: Policy | None, now: datetime) -> bool:
    """Whether a machine is being cycled: from the order until it is back, or has had the time for it that a pause is."""
    if machine.pending is not None:
        return True
    if policy is None:
        return False
    orders = machine.orders(since=now - policy.window)
    last = next((order for order in orders if may_have_switched(order)), None)
    if last is None:
        return False
    ended = ended_at(last)
    return now < ended + policy.pause_after(len(orders)) and not machine.is_back_since(ended)


def _outages(view: View, policies: Policies) -> tuple[bool, frozenset[str]]:
    """Whether too much of the lab was lost together, and of which racks. What people took out of service does not count."""
    lost: list[datetime] = []
    by_rack: defaultdict[str, list[datetime]] = defaultdict(list)
    for machine in view.machines:
        trouble = machine.trouble
        if trouble is not None and not machine.description.in_maintenance:
            lost.append(trouble.since)
            by_rack[machine.rack].append(trouble.since)
    lab = _is_outage(lost, view.totals.machines, policies)
    racks = (
        rack
        for rack, moments in by_rack.items()
        if _is_outage(moments, view.totals.racks.get(rack, 0), policies)
    )
    return lab, frozenset(racks)


def _is_outage(lost: Sequence[datetime], total: int, policies: Policies) -> bool:
    together = most_together(lost, policies.outage_span)
    return together >= LEAST_OUTAGE and together > total * policies.lab_percent / 100


def most_together(moments: Iterable[datetime], span: timedelta) -> int:
    """The largest number of these moments that lie within one span."""
    ordered = sorted(moments)
    most = first = 0
    for last, moment in enumerate(ordered):
        while moment - ordered[first] > span:
            first += 1
        most = max(most, last - first + 1)
    return most
