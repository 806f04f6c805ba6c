"""What self-healing does about each machine now, and why. Pure: the same view gives the same decisions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pipeline.healing.checks import DRY_RUN, Check, checks, moment, ordered_text
from pipeline.healing.policy import Policies
from pipeline.healing.situation import Situation
from pipeline.healing.view import Machine, View, may_have_switched
from schemas.healing import HealingState, healing_text


@dataclass(frozen=True, slots=True)
class Order:
    """A power cycle to be ordered."""

    why: str
    idempotency_key: str
    """The same for whoever decides this on what we know; another one for the next try."""
    force: bool
    """The machine's word that a task runs on it is out of date."""


@dataclass(frozen=True, slots=True)
class Decision:
    """For one machine."""

    machine: Machine
    state: HealingState | None
    """None: there is nothing to say."""
    reason: str
    order: Order | None = None
    """Cycle it now."""

    @property
    def text(self) -> str:
        """For `Description.healing`."""
        return "" if self.state is None else healing_text(self.state, self.reason)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with every check that it came from."""

    decision: Decision
    checks: tuple[Check, ...]


def decide(view: View, policies: Policies, now: datetime) -> list[Decision]:
    """Decide about every machine of the view, those longest in trouble first: so they get the places that there are."""
    situation = Situation.of(view, policies, now)
    return [_decide(machine, situation, checks(machine, situation, now), now) for machine in _in_turn(view)]


def explain(view: View, policies: Policies, now: datetime, machine_id: str) -> Explanation:
    """The decision about one machine of the view, after those whose turn is before it. Raises KeyError."""
    situation = Situation.of(view, policies, now)
    for machine in _in_turn(view):
        if machine.id == machine_id:
            every = tuple(checks(machine, situation, now))
            return Explanation(_decide(machine, situation, every, now), every)
        _decide(machine, situation, checks(machine, situation, now), now)
    raise KeyError(machine_id)


def _in_turn(view: View) -> list[Machine]:
    def turn(machine: Machine) -> tuple[bool, datetime, str]:
        trouble = machine.trouble
        since = machine.description.last_updated if trouble is None else trouble.since
        return trouble is None, since, machine.id

    return sorted(view.machines, key=turn)


def _decide(machine: Machine, situation: Situation, every: Iterable[Check], now: datetime) -> Decision:
    failed = next((check for check in every if not check.passed), None)
    if failed is None:
        situation.take(machine, rehearsal=False)
        return Decision(
            machine, HealingState.CYCLING, ordered_text(now), _order(machine, situation.policies, now)
        )
    if failed.name == DRY_RUN:
        situation.take(machine, rehearsal=True)
    return Decision(machine, failed.state, failed.text)


def _order(machine: Machine, policies: Policies, now: datetime) -> Order | None:
    policy, trouble = policies.of_machine(machine.pools), machine.trouble
    if policy is None or trouble is None:
        return None
    number = 1 + sum(map(may_have_switched, machine.orders(since=now - policy.window)))
    last = machine.records[0].command.id if machine.records else f"{now:%Y-%m-%d}"
    return Order(
        why=f"self-healing: {trouble.words} since {moment(trouble.since)}, try {number} of {policy.attempts}",
        idempotency_key=f"heal:{trouble.since.isoformat()}:{last}",
        force=machine.description.is_busy,
    )
