"""What must hold before a machine's power is cycled, one check after the other. The first that fails decides.

Texts name moments, never how long something lasts: each new text is a line in the machine's history.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipeline.healing.policy import Policy
from pipeline.healing.situation import Situation, is_under_way
from pipeline.healing.view import HEALER, Machine, Trouble, ended_at, may_have_switched
from schemas.description import PowerCycleState
from schemas.healing import HealingState, healing_state
from schemas.power import PowerRecord, PowerStatus
from schemas.spans import span_text
from schemas.wire import format_time

WELL: Final = "trouble"
"""Name of the check that fails for machines that nothing is wrong with."""
DRY_RUN: Final = "dry run"
"""Name of the last check."""


@dataclass(frozen=True, slots=True)
class Check:
    """One condition, and whether it holds."""

    name: str
    passed: bool
    text: str
    """Why it holds, or does not."""
    state: HealingState | None = None
    """Where self-healing is with the machine when this is what stands against a cycle."""


def moment(when: datetime) -> str:
    """To the second: texts are for people."""
    return format_time(when.replace(microsecond=0))


def ordered_text(when: datetime) -> str:
    """Why the machine is `cycling` until its command has ended."""
    return f"a power cycle was ordered at {moment(when)}"


def checks(machine: Machine, situation: Situation, now: datetime) -> Iterator[Check]:
    """All of them, in the order in which they count. Those of a machine that has no policy or no trouble end there."""
    policy = situation.policies.of_machine(machine.pools)
    pools = ", ".join(machine.pools) or "none"
    if policy is None:
        yield Check("policy", passed=False, text=f"self-healing is off for its pool ({pools})")
        return
    yield Check("policy", passed=True, text=f"self-healing is on for its pool ({pools})")
    yield _not_pending(machine)
    trouble = machine.trouble
    if trouble is None:
        yield _well(machine, policy, now)
        return
    yield Check(WELL, passed=True, text=f"{trouble.words}, since {moment(trouble.since)}")
    yield from _by_people(machine, policy, now)
    yield from _by_tries(machine, policy, trouble, now)
    yield from _by_state(machine, policy, trouble, situation, now)
    yield from _by_bounds(machine, policy, situation)


def _not_pending(machine: Machine) -> Check:
    record = machine.pending
    if record is None:
        return Check("pending", passed=True, text="no power command is pending for it")
    command = record.command
    when = moment(command.requested_at)
    if command.who == HEALER:
        return Check(
            "pending", passed=False, text=ordered_text(command.requested_at), state=HealingState.CYCLING
        )
    text = f"{command.who} ordered power {command.action} at {when}"
    state = None if machine.trouble is None else HealingState.WAITING
    return Check("pending", passed=False, text=text, state=state)


def _well(machine: Machine, policy: Policy, now: datetime) -> Check:
    """Nothing is wrong, or so it said before its power went."""
    orders = [each for each in machine.orders(since=now - policy.window) if may_have_switched(each)]
    said = healing_state(machine.description.healing)
    if not orders or said not in {HealingState.CYCLING, HealingState.HEALED}:
        return Check(WELL, passed=False, text="nothing is wrong with it that a power cycle would mend")
    last = orders[0]
    if said is HealingState.CYCLING and not machine.is_back_since(ended_at(last)):
        waits = is_under_way(machine, policy, now)
        text = _cycled(last)
        return Check(WELL, passed=False, text=text, state=HealingState.CYCLING if waits else None)
    text = f"well again after the power cycle of {moment(last.command.requested_at)}"
    healed = HealingState.HEALED if last.status is PowerStatus.DONE else None
    return Check(WELL, passed=False, text=text, state=healed)


def _cycled(order: PowerRecord) -> str:
    return (
        f"the power cycle of {moment(order.command.requested_at)} is {order.status}, and has not helped yet"
    )


def _by_people(machine: Machine, policy: Policy, now: datetime) -> Iterator[Check]:
    """What people said of it, and did."""
    about, held = machine.description, HealingState.HELD
    text = f"in maintenance ({about.maintenance_mode})" if about.in_maintenance else "not in maintenance"
    yield Check("maintenance", passed=not about.in_maintenance, text=text, state=held)
    text = "quarantined, which only a person ends" if about.is_quarantined else "not quarantined"
    yield Check("quarantine", passed=not about.is_quarantined, text=text, state=held)
    off = machine.is_switched_off(known_since=now - policy.window)
    text = "switched off, until somebody switches it on" if off else "nobody has switched it off"
    yield Check("switched off", passed=not off, text=text, state=held)
    record = machine.persons_try
    if record is None:
        yield Check("person", passed=True, text="nobody else has driven its power lately")
        return
    again = ended_at(record) + policy.pause
    text = f"{record.command.who} drove its power; no cycle before {moment(again)}"
    yield Check("person", passed=now >= again, text=text, state=HealingState.WAITING)


def _by_tries(machine: Machine, policy: Policy, trouble: Trouble, now: datetime) -> Iterator[Check]:
    """What was tried already."""
    yield _not_given_up(machine)
    orders = machine.orders(since=now - policy.window)
    tried = sum(map(may_have_switched, orders))
    yield _pause_is_over(orders, policy, trouble, now)
    text = f"{tried} of {policy.attempts} power cycles within {span_text(policy.window)} are used up"
    if tried >= policy.attempts:
        text = f"{text}, the last at {moment(orders[0].command.requested_at)}: a person must look"
    yield Check("attempts", passed=tried < policy.attempts, text=text, state=HealingState.GAVE_UP)


def _not_given_up(machine: Machine) -> Check:
    """Given up is given up until the machine is well, or a person has tried."""
    said = machine.description.healing
    if healing_state(said) is not HealingState.GAVE_UP:
        return Check("given up", passed=True, text="not given up")
    person = machine.persons_try
    ours = machine.last_order
    if person is not None and (ours is None or ours.command.requested_at < person.command.requested_at):
        return Check("given up", passed=True, text=f"{person.command.who} has tried since it was given up")
    text = said.partition(": ")[2]
    return Check("given up", passed=False, text=text, state=HealingState.GAVE_UP)


def _pause_is_over(orders: list[PowerRecord], policy: Policy, trouble: Trouble, now: datetime) -> Check:
    if not orders:
        return Check("pause", passed=True, text=f"not cycled within {span_text(policy.window)}")
    last = orders[0]
    again = ended_at(last) + policy.pause_after(len(orders))
    text = f"{_cycled(last)}; not again before {moment(again)}"
    is_this_trouble = last.command.requested_at >= trouble.since
    state = HealingState.CYCLING if is_this_trouble else HealingState.WAITING
    return Check("pause", passed=now >= again, text=text, state=state)


def _by_state(
    machine: Machine, policy: Policy, trouble: Trouble, situation: Situation, now: datetime
) -> Iterator[Check]:
    """How it is, and whether its power can be driven."""
    due = trouble.since + policy.after
    text = f"in trouble since {moment(trouble.since)}, long enough from {moment(due)} on"
    yield Check("long enough", passed=now >= due, text=text, state=HealingState.WAITING)
    yield _no_task(machine, policy, now)
    state = machine.description.power_cycle_state
    words = {
        PowerCycleState.AVAILABLE.value: "its power controller answers",
        PowerCycleState.IN_ERROR.value: "its power controller does not answer",
    }
    text = words.get(state, "no power controller has it")
    available = state == PowerCycleState.AVAILABLE.value
    yield Check("controller", passed=available, text=text, state=HealingState.HELD)
    yield _agent_is_there(machine, now)
    deaf = situation.view.deaf
    text = f"we cannot tell who is silent: no {deaf} is at work" if deaf else "machines' reports reach us"
    yield Check("hearing", passed=not deaf, text=text, state=HealingState.HELD)


def _no_task(machine: Machine, policy: Policy, now: datetime) -> Check:
    about = machine.description
    if not about.is_busy:
        return Check("task", passed=True, text="no task runs on it")
    if not about.is_down:
        return Check("task", passed=False, text="a task runs on it", state=HealingState.HELD)
    stale = about.down_since + policy.stale_task_after
    text = f"a task ran when it fell silent, which counts until {moment(stale)}"
    return Check("task", passed=now >= stale, text=text, state=HealingState.HELD)


def _agent_is_there(machine: Machine, now: datetime) -> Check:
    outlet = machine.outlet
    if outlet is None:
        return Check("agent", passed=True, text="it is not known which agent drives its power")
    heard = moment(outlet.reported_at)
    if outlet.agent_silence(now) is not None:
        text = f"its power agent {outlet.agent} has said nothing since {heard}"
        return Check("agent", passed=False, text=text, state=HealingState.HELD)
    return Check("agent", passed=True, text=f"its power agent {outlet.agent} was heard at {heard}")


def _by_bounds(machine: Machine, policy: Policy, situation: Situation) -> Iterator[Check]:
    """What protects the lab from us."""
    held, rack = HealingState.HELD, machine.rack or "without a name"
    share = f"{situation.policies.lab_percent:g} %"
    span = span_text(situation.policies.outage_span)
    loss = f"more than {share} of {{}} lost within {span} and still away: rather a network or a switch than machines"
    lab = situation.lab_outage
    text = loss.format("the fleet was") if lab else f"less than {share} of the fleet was lost together"
    yield Check("outage of the lab", passed=not lab, text=text, state=held)
    lost = machine.rack in situation.rack_outages
    text = loss.format(f"rack {rack} was") if lost else f"less than {share} of rack {rack} was lost together"
    yield Check("outage of the rack", passed=not lost, text=text, state=held)
    full = situation.full_pool(machine, policy)
    text = "fewer machines of its pool are being cycled than may be"
    if full is not None:
        text = f"of pool {full[0]} at most {full[1]} may be cycled at once"
    yield Check("pool", passed=full is None, text=text, state=held)
    is_full = situation.is_rack_full(machine, policy)
    text = f"fewer machines of rack {rack} are being cycled than may be"
    if is_full:
        text = f"of rack {rack} at most {policy.rack_machines} may be cycled at once"
    yield Check("rack", passed=not is_full, text=text, state=held)
    text = "dry run: it would be cycled now" if policy.dry_run else "this is no dry run"
    yield Check(DRY_RUN, passed=not policy.dry_run, text=text, state=held)
