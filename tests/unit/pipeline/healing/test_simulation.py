"""Thirty days of a lab of 2,000 machines: the bounds hold at every order, and what can be healed is."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from schemas.power import PowerAction
from tests.unit.pipeline.healing.oracle import judge
from tests.unit.pipeline.healing.simulated_lab import Box, Lab, hours, minutes

pytestmark = pytest.mark.slow

MONTH = timedelta(days=30)


def single_faults(lab: Lab, number: int) -> None:
    """Hangs, lost devices, machines dead for good, and such as come back by themselves."""
    for _ in range(number):
        box = lab.random.choice(lab.boxes)
        chance = lab.random.random()
        when = lab.spread(timedelta(), MONTH)
        if chance < 0.5:
            lab.after(when, lab.fail, box)
        elif chance < 0.75:
            lab.after(when, lab.fail, box, device=True)
        elif chance < 0.85:
            lab.after(when, passing, lab, box)
        else:
            lab.after(when, dead, lab, box)


def passing(lab: Lab, box: Box) -> None:
    lab.fail(box)
    fault = box.fault
    if fault is not None:
        lab.after(lab.spread(minutes(2), minutes(20)), lab.heal, box, fault)


def dead(lab: Lab, box: Box) -> None:
    """A person tries the power as well, takes it into maintenance, and repairs it."""
    lab.fail(box, curable=False)
    fault = box.fault
    if fault is None:
        return
    look = lab.spread(hours(2), hours(12))
    lab.after(look, try_by_hand, lab, box)
    lab.after(look + hours(4), box.describe, maintenance_mode="jo@example.com 2026-03-01T00:00:00Z")

    def repaired() -> None:
        lab.heal(box, fault)
        box.describe(maintenance_mode="")

    lab.after(look + hours(5), repaired)


def try_by_hand(lab: Lab, box: Box) -> None:
    if box.fault is not None and not any(record.status.is_pending for record in box.records):
        box.fault.disturbed = True
        lab.add_command(box, "jo@example.com", PowerAction.CYCLE)


def flapping(lab: Lab, number: int) -> None:
    """Machines that hang every few hours, however often they are cured."""
    for box in lab.random.sample(lab.boxes, number):
        for day in range(30):
            for _ in range(3):
                lab.after(
                    timedelta(days=day) + lab.spread(hours(0), hours(24)), lambda box=box: lab.fail(box)
                )


def bursts(lab: Lab) -> None:
    """Several machines of one pool or rack within minutes: enough to fill what may be cycled, not enough for an outage."""
    for day in range(30):
        rack = lab.random.randrange(50)
        for box in lab.boxes[rack * 40 : rack * 40 + 7]:
            lab.after(timedelta(days=day) + lab.spread(hours(0), hours(0.5)), lab.fail, box)


def outages(lab: Lab) -> None:
    for day in range(1, 30, 2):
        rack = lab.random.randrange(50)
        length = lab.spread(minutes(20), hours(6))
        lab.after(
            timedelta(days=day) + lab.spread(hours(0), hours(20)),
            lab.start_outage,
            rack,
            length,
        )
    lab.after(timedelta(days=20), lab.cut_network, minutes(30))


def interference(lab: Lab) -> None:
    """Tasks that ran, quarantines, controllers in error, and agents that are away."""
    for _ in range(1500):
        lab.after(lab.spread(timedelta(), MONTH), obstruct, lab)
    for day in range(30):
        rack = lab.random.randrange(50)
        lab.after(timedelta(days=day) + lab.spread(hours(0), hours(20)), away, lab, rack)


def obstruct(lab: Lab) -> None:
    broken = [box for box in lab.boxes if box.fault is not None]
    if not broken:
        return
    box = lab.random.choice(broken)
    assert box.fault is not None
    box.fault.disturbed = True
    what: dict[str, object] = lab.random.choice(
        [{"is_quarantined": True}, {"running_swarming_task": True}, {"power_cycle_state": "in_error"}]
    )
    was = {name: getattr(box.description, name) for name in what}
    if was == what or (box.outlet is None and "power_cycle_state" in what):
        return
    box.describe(**what)
    lab.after(lab.spread(minutes(30), hours(8)), partial(box.describe, **was))


def away(lab: Lab, rack: int) -> None:
    lab.agents_away.add(rack)
    for box in lab.boxes[rack * 40 : rack * 40 + 40]:
        if box.fault is not None:
            box.fault.disturbed = True
    lab.after(lab.spread(hours(1), hours(5)), lab.agents_away.discard, rack)


def test_the_bounds_hold_for_thirty_days_and_what_can_be_healed_is() -> None:
    lab = Lab(seed=1, oracle=judge)
    single_faults(lab, 1000)
    flapping(lab, 5)
    bursts(lab)
    outages(lab)
    interference(lab)

    lab.run(MONTH)

    assert lab.missed == []
    cures = sorted(cure for box in lab.boxes for cure in box.cures)
    assert len(cures) > 700
    assert cures[len(cures) // 2] < minutes(30)
    assert cures[len(cures) * 95 // 100] < hours(3)
    assert lab.orders > 1000
    assert lab.texts < 9 * lab.faults, "the history would be full of it"
    told = " | ".join(lab.seen)
    for words in EVERY_BOUND:
        assert words in told, f"nothing was ever {words}"


EVERY_BOUND = (
    "gave up",
    "healed well again",
    "held in maintenance",
    "held quarantined",
    "held a task",
    "held its power controller does not answer",
    "held its power agent",
    "held no power controller",
    "held of pool",
    "held of rack",
    "held more than of the fleet was lost",
    "held more than of rack was lost",
    "would be cycled now",
    "waiting drove its power",
    "waiting in trouble",
    "cycling the power cycle of is done",
)
"""Held by each of them at some time in the month: a bound that never holds anything proves nothing."""
