"""What becomes of power commands, outlets and their machines when results are heard, or time passes. Pure; shared by all stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from pipeline.processor.operators import set_power_cycle_state
from pipeline.store.edits import Edit
from pipeline.store.power_entries import Entry, expired, overdue, queued, showing, shown, stepped
from pipeline.store.protocol import Change, Updated
from schemas.description import Description
from schemas.power import (
    ControllerReport,
    PowerOutlet,
    PowerRecord,
    PowerResult,
    PowerStep,
)

_LONGEST_WHY: Final = 2000


@dataclass(slots=True)
class Outcome:
    """What a sequence of results comes to."""

    changes: dict[str, list[Change]] = field(default_factory=dict)
    """To Descriptions, by machine, in order."""
    reasons: dict[str, list[str]] = field(default_factory=dict)
    """Why, in agents' words, by machine."""
    entries: dict[str, Entry] = field(default_factory=dict)
    """Commands to write, by id."""
    outlets: dict[str, PowerOutlet] = field(default_factory=dict)
    """Outlets to write, by machine."""
    repeated: set[str] = field(default_factory=set)
    """Machines of which something was said a second time."""
    strangers: list[PowerStep] = field(default_factory=list)
    """Steps of commands that nobody knows, and that did not bring them along."""
    claims: list[tuple[PowerOutlet, PowerOutlet]] = field(default_factory=list)
    """Outlets as one agent told of them, and at once another, or from behind another controller."""

    @property
    def records(self) -> list[PowerRecord]:
        """The commands to write, as they are now."""
        return [each.record for each in self.entries.values()]

    @property
    def machine_ids(self) -> list[str]:
        """Machines of whose power something is to be written, sorted."""
        return sorted({each.machine_id for each in self.entries.values()} | self.outlets.keys())

    def why(self, machine_id: str) -> str:
        """What the history says."""
        return "; ".join(dict.fromkeys(filter(None, self.reasons.get(machine_id, ()))))[:_LONGEST_WHY]


class _Commands:
    """Those that are known, while results are taken into account."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.by_id: dict[str, Entry] = {}
        self._by_machine: dict[str, dict[str, Entry]] = {}
        for each in entries:
            self._put(each)

    def _put(self, entry: Entry) -> None:
        self.by_id[entry.id] = entry
        self._by_machine.setdefault(entry.machine_id, {})[entry.id] = entry

    def take_over(self, after: Entry, outcome: Outcome) -> None:
        """Let a command be as it is now, and its machine tell of the command that is to be told of."""
        self._put(after)
        outcome.entries[after.id] = after
        latest = shown(self._by_machine[after.machine_id].values()) or after
        outcome.changes.setdefault(after.machine_id, []).append(showing(latest))
        if latest is after and not after.is_pending:
            outcome.reasons.setdefault(after.machine_id, []).append(after.record.text)


def fold(
    results: Sequence[PowerResult],
    entries: Iterable[Entry],
    outlets: Mapping[str, PowerOutlet],
    *,
    now: datetime,
) -> Outcome:
    """Take results into account, in order.

    `entries`: the commands that they name, and of each machine the pending ones and the newest.
    """
    commands = _Commands(entries)
    outcome = Outcome()
    for result in results:
        if isinstance(result, ControllerReport):
            _fold_report(result, outlets, outcome, now)
        else:
            _fold_step(result, commands, outcome, now)
    return outcome


def as_of(entries: Iterable[Entry], outcome: Outcome) -> list[Entry]:
    """The commands, with what an outcome has made of some."""
    return [outcome.entries.get(each.id, each) for each in entries]


def told(outcome: Outcome, edits: Sequence[Edit], machines: Mapping[str, Description]) -> Sequence[Updated]:
    """What the caller is to tell the world of the machines: of those that were written, and of those repeated."""
    changed = {each.machine_id: each.updated for each in edits}
    repeated = {
        each: Updated(each, machines[each], ()) for each in sorted(outcome.repeated) if each in machines
    }
    return list({**repeated, **changed}.values())


def give_up(entries: Iterable[Entry], *, now: datetime, grace: timedelta, stalled: timedelta) -> Outcome:
    """End the commands that nobody else ends. `entries`: of each machine the pending ones and the newest."""
    return _ending(entries, partial(overdue, now=now, grace=grace, stalled=stalled))


def make_way(entries: Iterable[Entry], *, now: datetime) -> Outcome:
    """End those that nobody has begun, and nobody may begin any more, for a new one. `entries` are as for `give_up`.

    There is no grace: an agent that began one at the last moment tells, and then that one goes on beside the new one.
    """
    return _ending(entries, partial(expired, now=now))


def _ending(entries: Iterable[Entry], end: Callable[[Entry], Entry | None]) -> Outcome:
    commands = _Commands(entries)
    outcome = Outcome()
    for each in sorted(commands.by_id.values(), key=lambda each: each.id):
        after = end(each)
        if after is not None:
            commands.take_over(after, outcome)
    return outcome


def _fold_step(step: PowerStep, commands: _Commands, outcome: Outcome, now: datetime) -> None:
    known = commands.by_id.get(step.command_id)
    before = known or _brought_along(step, now)
    if before is None or before.machine_id != step.machine_id:
        outcome.strangers.append(step)
        return
    after = stepped(before, step, now=now)
    if after is known:
        outcome.repeated.add(step.machine_id)
    else:
        commands.take_over(after, outcome)


def _brought_along(step: PowerStep, now: datetime) -> Entry | None:
    if step.command is None or step.command.id != step.command_id:
        return None
    return queued(step.command, now=now)


def _fold_report(
    report: ControllerReport, outlets: Mapping[str, PowerOutlet], outcome: Outcome, now: datetime
) -> None:
    at = min(report.at, now)  # a clock that was ahead must not silence its owner once it is right
    before = outcome.outlets.get(report.machine_id) or outlets.get(report.machine_id)
    if before is not None and at < before.reported_at:
        return
    after = PowerOutlet(
        machine_id=report.machine_id,
        agent=report.agent,
        controller=report.controller,
        port=report.port,
        state=report.state,
        text=report.text,
        reported_at=at,
    )
    if after == before:
        outcome.repeated.add(report.machine_id)
        return
    if before is not None and after.is_of_older_agent and _is_held(before, at):
        return  # one that tells more, and again and again, has the machine by now
    outcome.outlets[report.machine_id] = after
    if before is not None and _is_claimed_twice(before, after, at):
        outcome.claims.append((before, after))
    change = partial(set_power_cycle_state, state=report.state)
    outcome.changes.setdefault(report.machine_id, []).append(change)
    if before is None or (before.state, before.text) != (after.state, after.text):
        outcome.reasons.setdefault(report.machine_id, []).append(report.text)


def _is_claimed_twice(before: PowerOutlet, after: PowerOutlet, at: datetime) -> bool:
    moved = (before.agent, before.controller) != (after.agent, after.controller)
    return moved and _is_held(before, at)


def _is_held(outlet: PowerOutlet, at: datetime) -> bool:
    """Whether the outlet's agent, one that would tell if it were gone, is there."""
    return not outlet.is_of_older_agent and outlet.agent_silence(at) is None
