"""What must be true of every order, worked out from the simulated lab's own books."""

from __future__ import annotations

from datetime import datetime

from pipeline.healing.decision import Decision
from pipeline.healing.policy import EVERY_POOL, Policy
from pipeline.healing.view import HEALER
from schemas.power import PowerRecord, PowerStatus
from tests.unit.pipeline.healing.simulated_lab import POLICIES, RACK, ROUND, SILENCE, Box, Lab

_VISIBLE = SILENCE + ROUND
"""So long after a switch died all of its machines are marked down, and a round has looked."""


def judge(lab: Lab, box: Box, decision: Decision) -> None:
    """Fail if this order must not be given."""
    policy = rules(box)
    assert decision.machine.id == box.id
    assert policy.enabled
    assert not policy.dry_run
    _machine_may(lab, box, policy)
    _tries_are_left(lab, box, policy, decision.machine.description.healing)
    pool = lab.pools[box.pool]
    most = max(1, int(len(pool) * policy.pool_percent / 100))
    assert sum(is_out(each, lab.now) for each in pool) + 1 <= most, f"too much of {box.pool} at once"
    rack = lab.boxes[box.rack * RACK : (box.rack + 1) * RACK]
    assert sum(is_out(each, lab.now) for each in rack) + 1 <= policy.rack_machines, (
        "too much of a rack at once"
    )
    died = lab.dead_racks.get(box.rack)
    assert died is None or lab.now - died < _VISIBLE, "its switch is dead"
    assert lab.cut_since is None or lab.now - lab.cut_since < _VISIBLE, "the network is cut"


def rules(box: Box) -> Policy:
    return POLICIES.pools.get(box.pool, POLICIES.pools[EVERY_POOL])


def _machine_may(lab: Lab, box: Box, policy: Policy) -> None:
    about, fault = box.description, box.fault
    assert fault is not None, "nothing is wrong with it"
    assert lab.now - fault.since >= policy.after, "too early"
    assert not about.in_maintenance
    assert not about.is_quarantined
    if about.running_swarming_task:
        assert about.is_down, "its task runs"
        assert lab.now - fault.since >= policy.stale_task_after, "its task may run"
    assert box.outlet is not None
    assert about.power_cycle_state == "available"
    assert box.rack not in lab.agents_away, "nobody would drive it"


def _tries_are_left(lab: Lab, box: Box, policy: Policy, said: str) -> None:
    assert not any(record.status.is_pending for record in box.records), "a command is pending"
    ours = [each for each in box.records if each.command.who == HEALER]
    lately = [each for each in ours if lab.now - each.command.requested_at < policy.window]
    switched = [each for each in lately if each.status is not PowerStatus.REFUSED]
    assert len(switched) + 1 <= policy.attempts, "too many tries"
    if lately:
        pause = min(policy.pause * policy.factor ** (len(lately) - 1), policy.longest_pause)
        assert lab.now - end_of(lately[0]) >= pause, "too soon after the last try"
    people = [each for each in box.records if each.command.who != HEALER]
    if said.startswith("gave up"):
        assert people, "given up, and nobody has looked"
        assert end_of(people[0]) > end_of(ours[0]), "given up, and nobody has looked since"
    assert not people or lab.now - end_of(people[0]) >= policy.pause, "somebody has just tried"


def end_of(record: PowerRecord) -> datetime:
    return record.steps[-1].at


def is_out(box: Box, now: datetime) -> bool:
    """Whether it was cycled, and neither is back nor has had its time to be."""
    if not box.records:
        return False
    newest = box.records[0]
    if newest.status.is_pending:
        return True
    ours = [each for each in box.records if each.command.who == HEALER]
    lately = [each for each in ours if now - each.command.requested_at < rules(box).window]
    last = next((each for each in lately if each.status is not PowerStatus.REFUSED), None)
    if last is None or box.fault is None:
        return False
    policy = rules(box)
    pause = min(policy.pause * policy.factor ** (len(lately) - 1), policy.longest_pause)
    return now < end_of(last) + pause
