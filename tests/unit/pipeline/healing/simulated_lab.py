"""A lab of 2,000 machines that fail in every way a lab knows, agents that are slow or away, and people who interfere.

It jumps from event to event. What happened lies in plain fields, so that `oracle` can judge each order without asking the
code that it judges.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Final

from pipeline.healing.decision import Decision, decide
from pipeline.healing.policy import EVERY_POOL, Policies, Policy
from pipeline.healing.view import HEALER, Machine, Totals, View
from schemas.description import Description, PowerCycleState
from schemas.healing import HealingState
from schemas.ids import new_ulid
from schemas.power import PowerAction, PowerCommand, PowerMoment, PowerOutlet, PowerRecord, PowerStatus
from schemas.wire import ZERO_TIME

START: Final = datetime(2026, 3, 1, tzinfo=UTC)
MACHINES: Final = 2000
RACK: Final = 40
SILENCE: Final = timedelta(seconds=95)
"""Until the watchdog marks a machine down."""
ROUND: Final = timedelta(minutes=3)
EXPIRY: Final = timedelta(minutes=12)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


POLICIES: Final = Policies(
    {
        EVERY_POOL: Policy(pool_percent=0.5, rack_machines=3),
        "Boards": Policy(after=minutes(6), attempts=2, window=hours(8), pause=minutes(15), pool_percent=0.5),
        "Servers": Policy(after=minutes(30), attempts=4, factor=3, pool_percent=2, rack_machines=1),
        "Rehearsal": Policy(dry_run=True),
        "Off": Policy(enabled=False),
    }
)
_POOLS: Final = ("Phones",) * 9 + ("Boards",) * 6 + ("Servers",) * 3 + ("Rehearsal", "Off")


@dataclass(eq=False)
class Fault:
    """What is wrong with a machine."""

    since: datetime
    curable: bool = True
    by_outage: bool = False
    disturbed: bool = False
    """People or agents stood in the way of a cure."""


@dataclass(eq=False)
class Box:
    """A machine, as it is and as it is described."""

    id: str
    pool: str
    rack: int
    description: Description
    outlet: PowerOutlet | None
    silent_outlet: PowerOutlet | None
    """The same, as it looks while its agent is away."""
    fault: Fault | None = None
    records: list[PowerRecord] = field(default_factory=list)
    cures: list[timedelta] = field(default_factory=list)

    def describe(self, **fields: object) -> None:
        self.description = self.description.evolve(fields)

    @property
    def is_interesting(self) -> bool:
        about = self.description
        is_healed = about.healing.startswith(HealingState.HEALED.value)
        return (
            about.is_down or about.is_recovering or self._is_pending or not (is_healed or not about.healing)
        )

    @property
    def _is_pending(self) -> bool:
        return bool(self.records) and self.records[0].status.is_pending


class Lab:
    """All of it."""

    def __init__(self, seed: int, oracle: Callable[[Lab, Box, Decision], None]) -> None:
        self.random = random.Random(seed)
        self.now = START
        self.oracle = oracle
        self.dead_racks: dict[int, datetime] = {}
        self.cut_since: datetime | None = None
        self.agents_away: set[int] = set()
        self.boxes = [self._box(number) for number in range(MACHINES)]
        self.totals = Totals(
            MACHINES,
            Counter(box.pool for box in self.boxes),
            Counter(self.machine(box).rack for box in self.boxes),
        )
        self.missed: list[str] = []
        """What should have been healed, and was not."""
        self.pools: dict[str, list[Box]] = defaultdict(list)
        for box in self.boxes:
            self.pools[box.pool].append(box)
        self.seen: Counter[str] = Counter()
        self.orders = self.decisions = self.texts = self.faults = 0
        self._events: list[tuple[datetime, int, Callable[[], object]]] = []
        self._numbers = count()
        self._wanted: set[Box] = set()

    def _box(self, number: int) -> Box:
        rack = number // RACK
        machine_id = f"rack{rack}-{number % RACK:02}"
        pool = _POOLS[number % len(_POOLS)]
        dimensions: dict[str, list[str] | None] = {"id": [machine_id], "pool": [pool]}
        if rack % 2:
            dimensions["rack"] = [f"rack{rack}"]
        able = number % 50 != 7
        outlet = PowerOutlet(
            machine_id=machine_id,
            agent=f"agent{rack}",
            controller=f"edgeswitch/switch{rack}",
            port=str(number % RACK),
            state=PowerCycleState.AVAILABLE,
            reported_at=START + timedelta(days=40),  # always fresh
        )
        state = PowerCycleState.AVAILABLE if able else PowerCycleState.NOT_AVAILABLE
        about = Description(dimensions=dimensions, power_cycle_state=state.value, last_updated=START)
        silent = outlet.evolve({"reported_at": START - timedelta(days=1)})
        where = (outlet, silent) if able else (None, None)
        return Box(machine_id, pool, rack, about, *where)

    # --- time ----------------------------------------------------------------------------------------------------------

    def after(
        self, delay: timedelta, event: Callable[..., object], *arguments: object, **options: object
    ) -> None:
        call: Callable[[], object] = partial(event, *arguments, **options)
        heapq.heappush(self._events, (self.now + delay, next(self._numbers), call))

    def wake(self, *delays: timedelta) -> None:
        """Have a decision made at these moments."""
        for delay in delays:
            self.after(delay, lambda: None)

    def run(self, length: timedelta) -> None:
        """Let events happen, and after those of each minute decide."""
        end = START + length
        while self._events and self._events[0][0] < end:
            beat = self._events[0][0] + ROUND
            while self._events and self._events[0][0] <= beat:
                self.now, _, event = heapq.heappop(self._events)
                event()
            self.now = beat
            self._decide()

    def spread(self, least: timedelta, most: timedelta) -> timedelta:
        return least + (most - least) * self.random.random()

    # --- faults --------------------------------------------------------------------------------------------------------

    def fail(self, box: Box, *, curable: bool = True, by_outage: bool = False, device: bool = False) -> None:
        if box.fault is not None:
            return
        self.faults += 1
        fault = box.fault = Fault(self.now, curable=curable, by_outage=by_outage)
        fault.disturbed = by_outage or box.outlet is None or box.description.in_maintenance
        self._wanted.add(box)
        policy = POLICIES.pools.get(box.pool, POLICIES.pools[EVERY_POOL])

        def show() -> None:
            if box.fault is not fault:
                return
            if device:
                text = 'Device ["redfin"] has gone missing'
                box.describe(recovering=text, recovery_start=self.now, last_updated=self.now)
            else:
                box.describe(down_since=fault.since, last_updated=fault.since)

        self.after(minutes(0.5) if device else SILENCE, show)
        if curable:
            patience = (
                self.spread(hours(2), hours(4)) if fault.disturbed else self.spread(hours(9), hours(15))
            )
            self.after(patience, self._repair, box, fault)
        self.wake(policy.after + SILENCE, policy.after + minutes(20), policy.after + hours(1))

    def _repair(self, box: Box, fault: Fault) -> None:
        """A person finds what nobody has healed, and mends what lies with the machine."""
        if fault.by_outage:
            self.after(hours(2), self._repair, box, fault)
            return
        policy = POLICIES.pools.get(box.pool, POLICIES.pools[EVERY_POOL])
        has_given_up = box.description.healing.startswith(HealingState.GAVE_UP.value)
        may_heal = policy.enabled and not policy.dry_run and not fault.disturbed and not has_given_up
        if box.fault is fault and may_heal:
            self.missed.append(f"{box.id} since {fault.since}: {box.description.healing}")
        self.heal(box, fault)

    def heal(self, box: Box, fault: Fault) -> None:
        if box.fault is not fault:
            return
        box.fault = None
        box.describe(recovering="", down_since=ZERO_TIME, last_updated=self.now, running_swarming_task=False)

    def start_outage(self, rack: int, length: timedelta) -> None:
        """A switch dies and takes its machines along. One or two of them do not come back by themselves."""
        self.dead_racks[rack] = self.now
        for box in self.boxes[rack * RACK : (rack + 1) * RACK]:
            self.after(self.spread(minutes(0), minutes(0.5)), self._cut, box, length)
        self.after(length, self.dead_racks.pop, rack)

    def _cut(self, box: Box, length: timedelta) -> None:
        self.fail(box, by_outage=True)
        fault = box.fault
        if fault is None or not fault.by_outage:
            return

        def back() -> None:
            fault.by_outage = False
            if self.random.random() < 0.96:
                self.heal(box, fault)

        self.after(length + self.spread(minutes(0), minutes(2)), back)

    def cut_network(self, length: timedelta) -> None:
        """A dozen racks are lost as a whole, and a few machines of each of the others."""
        self.cut_since = self.now
        for number, box in enumerate(self.boxes):
            if box.rack < 12 or number % 13 == 0:
                self.after(self.spread(minutes(0), minutes(1)), self._cut, box, length)

        def end() -> None:
            self.cut_since = None

        self.after(length, end)

    # --- decisions and agents ------------------------------------------------------------------------------------------

    def machine(self, box: Box) -> Machine:
        about = box.description
        if box.fault is None and not about.is_down:
            about = about.evolve({"last_updated": self.now - timedelta(seconds=10)})
        outlet = box.silent_outlet if box.rack in self.agents_away else box.outlet
        return Machine(box.id, about, box.records, outlet)

    def _decide(self) -> None:
        self._wanted = {box for box in self._wanted if box.fault is not None or box.is_interesting}
        view = View([self.machine(box) for box in self._wanted if box.is_interesting], self.totals)
        by_id = {box.id: box for box in self._wanted}
        decisions = decide(view, POLICIES, self.now)
        self.decisions += len(decisions)
        for decision in decisions:
            box = by_id[decision.machine.id]
            if decision.text != box.description.healing:
                self.texts += 1
                self.seen[_kind(decision)] += 1
                box.describe(healing=decision.text)
            if decision.order is not None:
                self.oracle(self, box, decision)
                self._order(box)

    def _order(self, box: Box) -> None:
        self.orders += 1
        self.add_command(box, HEALER, PowerAction.CYCLE)

    def add_command(self, box: Box, who: str, action: PowerAction) -> None:
        """Queue a command, and let an agent carry it out, or not."""
        command = PowerCommand(
            id=new_ulid(),
            machine_id=box.id,
            action=action,
            who=who,
            requested_at=self.now,
            expires_at=self.now + minutes(10),
        )
        queued = PowerMoment(status=PowerStatus.QUEUED, at=self.now)
        box.records.insert(0, PowerRecord(command=command, status=PowerStatus.QUEUED, steps=[queued]))
        del box.records[30:]
        self._wanted.add(box)
        chance = self.random.random()
        if box.rack in self.agents_away or chance < 0.02:
            self._end(box, PowerStatus.EXPIRED, EXPIRY)
        elif chance < 0.05:
            self._end(box, PowerStatus.REFUSED, minutes(0.1))
        elif chance < 0.10:
            self._end(box, PowerStatus.FAILED, minutes(2))
        else:
            self._end(box, PowerStatus.DONE, self.spread(minutes(0.2), minutes(9)))

    def _end(self, box: Box, status: PowerStatus, delay: timedelta) -> None:
        policy = POLICIES.pools.get(box.pool, POLICIES.pools[EVERY_POOL])
        queued = box.records[0]

        def end() -> None:
            place = box.records.index(queued)
            step = PowerMoment(status=status, at=self.now)
            box.records[place] = queued.evolve({"status": status, "steps": [*queued.steps, step]})
            self.wake(*(policy.pause_after(number) + minutes(1) for number in range(1, 5)))
            fault = box.fault
            if status is PowerStatus.DONE and fault is not None and fault.curable and not fault.by_outage:
                self.after(self.spread(minutes(1), minutes(4)), self._cured, box, fault)

        self.after(delay, end)

    def _cured(self, box: Box, fault: Fault) -> None:
        if box.fault is fault and not fault.disturbed:
            box.cures.append(self.now - fault.since)
        self.heal(box, fault)


def _kind(decision: Decision) -> str:
    """The decision without names, numbers and moments."""
    words = [word.strip(",:;") for word in decision.reason.split() if word.strip(",:;").isalpha()]
    return " ".join([decision.state.value if decision.state else "nothing", *words])
