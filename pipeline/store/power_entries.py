"""One power command: how its row begins, what moves it on, and how it ends. Pure; shared by all stores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from pipeline.errors import KeyReused, PowerRefused
from pipeline.processor import power
from pipeline.store.protocol import Change
from schemas.description import PowerCycleState
from schemas.power import PowerCommand, PowerMoment, PowerOutlet, PowerRecord, PowerStatus, PowerStep

_ORDER: Final = {PowerStatus.QUEUED: 0, PowerStatus.ACCEPTED: 1, PowerStatus.OFF: 2, PowerStatus.ON: 3}
_AN_END: Final = 4
_NOTHING_SWITCHED: Final = frozenset({PowerStatus.EXPIRED, PowerStatus.REFUSED, PowerStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class Entry:
    """A command's row: the record, and what only the store needs to know."""

    record: PowerRecord
    heard_at: datetime
    """The store's clock when there was news of it."""
    is_final: bool = False
    """An agent has said how it ended. What the store says of itself gives way to that."""
    idempotency_key: str = ""

    @property
    def id(self) -> str:
        """The command's."""
        return self.record.command.id

    @property
    def machine_id(self) -> str:
        """Whose power it is about."""
        return self.record.command.machine_id

    @property
    def is_pending(self) -> bool:
        """Whether it has not ended."""
        return self.record.status.is_pending


# --- what the store does by itself ---------------------------------------------------------------------------------------


def queued(command: PowerCommand, *, now: datetime, idempotency_key: str = "") -> Entry:
    """A command that nobody has begun."""
    moment = PowerMoment(status=PowerStatus.QUEUED, at=command.requested_at)
    record = PowerRecord(command=command, status=PowerStatus.QUEUED, steps=[moment])
    return Entry(record, now, idempotency_key=idempotency_key)


def addressed(command: PowerCommand, outlet: PowerOutlet | None) -> PowerCommand:
    """The command, for the agent that said last that it has the machine: two with the same port must not both drive it.

    Agents of the older system know nothing of that.
    """
    if outlet is None or outlet.state is PowerCycleState.NOT_AVAILABLE or outlet.is_of_older_agent:
        return command
    return command.model_copy(update={"agent": outlet.agent})


def standing(entries: Iterable[Entry], command: PowerCommand, idempotency_key: str) -> Entry | None:
    """What there is already of a machine's commands instead of this one: of the same wish, or pending.

    Raises `KeyReused` when the key stands for another wish.
    """
    newest_first = _newest_first(entries)
    for each in newest_first:
        if each.id == command.id:
            return each
        if idempotency_key and each.idempotency_key == idempotency_key:
            _check_same_wish(each.record.command, command)
            return each
    return next((each for each in newest_first if each.is_pending), None)


def _check_same_wish(before: PowerCommand, now: PowerCommand) -> None:
    wished, wishes = _wish(before), _wish(now)
    different = [name for name, value in wishes.items() if value != wished[name]]
    if different:
        raise KeyReused(now.machine_id, different)


def _wish(command: PowerCommand) -> dict[str, object]:
    """What was asked for, by the names that the request has for it."""
    return {
        "action": command.action,
        "delay_s": command.delay_s,
        "why": command.why,
        "force": command.force,
        "expires_in_s": command.expires_at - command.requested_at,
    }


def withdrawal(
    entry: Entry, entries: Iterable[Entry], *, now: datetime, who: str, why: str = ""
) -> tuple[Entry, Sequence[Change]]:
    """The command, cancelled, and what that does to its machine. `entries` are the machine's."""
    after = withdrawn(entry, now=now, text=": ".join(filter(None, (f"withdrawn by {who}", why))))
    remaining = [after if each.id == after.id else each for each in entries]
    note = partial(power.withdrawn, command=entry.record.command, who=who, now=now)
    return after, [note, showing(shown(remaining) or after)]


def withdrawn(entry: Entry, *, now: datetime, text: str) -> Entry:
    """The command, cancelled before anybody has begun."""
    command = entry.record.command.model_copy(update={"cancelled": True})
    return _ended(entry, PowerStatus.CANCELLED, now, text, command=command)


def overdue(entry: Entry, *, now: datetime, grace: timedelta, stalled: timedelta) -> Entry | None:
    """The command, ended because nobody else does; None while there is hope."""
    if entry.record.status is PowerStatus.QUEUED:
        return expired(entry, now=now, grace=grace)
    if not entry.is_pending or entry.heard_at + stalled > now:
        return None
    minutes = stalled // timedelta(minutes=1)
    text = f"nothing was heard from {entry.record.agent} for {minutes} minutes: look at the machine's port"
    return _ended(entry, PowerStatus.FAILED, now, text)


def expired(entry: Entry, *, now: datetime, grace: timedelta = timedelta(0)) -> Entry | None:
    """The command, ended because nobody may begin it any more; None if somebody has, or still may."""
    is_late = entry.record.status is PowerStatus.QUEUED and entry.record.command.expires_at + grace <= now
    return _ended(entry, PowerStatus.EXPIRED, now, "no agent began it in time") if is_late else None


def queued_ones(entries: Iterable[Entry]) -> list[Entry]:
    """Those that may be withdrawn, the newest first."""
    return [each for each in _newest_first(entries) if each.record.status is PowerStatus.QUEUED]


def to_withdraw(entries: Sequence[Entry]) -> Entry | None:
    """The pending command of a machine. None: there is none. Raises `PowerRefused` when an agent has begun."""
    queued_one = next(iter(queued_ones(entries)), None)
    begun = next((each for each in entries if each.is_pending), None)
    if queued_one is None and begun is not None:
        raise PowerRefused(
            "begun",
            f"{begun.record.agent} has begun the {begun.record.command.action} of {begun.machine_id}: wait until it ends",
        )
    return queued_one


def shown(entries: Iterable[Entry]) -> Entry | None:
    """The command that a machine's Description tells of: a pending one, otherwise the newest.

    Ids are as new as the clocks of those who made them, so a pending command need not have the greatest.
    """
    newest_first = _newest_first(entries)
    return next((each for each in newest_first if each.is_pending), next(iter(newest_first), None))


def showing(entry: Entry) -> Change:
    """The change that lets the Description tell of this command."""
    return partial(power.advanced, action=entry.record.command.action, status=entry.record.status)


def _newest_first(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda each: each.id, reverse=True)


def _ended(
    entry: Entry, status: PowerStatus, now: datetime, text: str, *, command: PowerCommand | None = None
) -> Entry:
    moment = PowerMoment(status=status, at=now, text=text)
    changed = {
        "command": command or entry.record.command,
        "status": status,
        "steps": _with(entry.record.steps, moment),
        "text": text,
    }
    return replace(entry, record=entry.record.evolve(changed), heard_at=now)


def _with(steps: Sequence[PowerMoment], moment: PowerMoment) -> list[PowerMoment]:
    """The moments in time's order, behind the first, which is the request. A status has one: the latest said."""
    first, *others = steps
    kept = [each for each in others if each.status is not moment.status]
    return [first, *sorted([*kept, moment], key=lambda each: (each.at, _rank(each.status)))]


# --- what agents say -----------------------------------------------------------------------------------------------------


def stepped(entry: Entry, step: PowerStep, *, now: datetime) -> Entry:
    """What an agent's step makes of its command: the very same object if that is nothing."""
    if step.status is PowerStatus.QUEUED:
        return entry
    is_end = not step.status.is_pending
    is_news = all(each.status is not step.status for each in entry.record.steps)
    is_belied = _is_belied(entry.record, step)
    if not is_news and (entry.is_final or is_belied or not is_end):
        return _explained(entry, step, now)
    moment = PowerMoment(status=step.status, at=step.at, text=step.text)
    record = entry.record.evolve({"steps": _with(entry.record.steps, moment)})
    is_final = entry.is_final and not _belies(step, record)
    if not is_final and not is_belied and _counts(record, step):
        text = step.text or (record.text if step.status is record.status else "") if is_end else ""
        record = record.evolve({"status": _furthest(record, step), "agent": step.agent, "text": text})
    return replace(entry, record=record, heard_at=now, is_final=is_final or (is_end and not is_belied))


def _explained(entry: Entry, step: PowerStep, now: datetime) -> Entry:
    """The command, with the latest word of its agent why it is where it was before."""
    record = entry.record
    is_there = record.status.is_pending and step.status is record.status and step.agent == record.agent
    if not is_there or step.text in {"", record.text}:
        return entry
    return replace(entry, record=record.evolve({"text": step.text}), heard_at=now)


def _belies(step: PowerStep, record: PowerRecord) -> bool:
    """Whether an agent has begun what another, that the machine's port was given to as well, would not begin."""
    return record.status in _NOTHING_SWITCHED and step.status not in _NOTHING_SWITCHED


def _is_belied(record: PowerRecord, step: PowerStep) -> bool:
    """The same, heard in the other order."""
    is_begun = record.status.is_pending and record.status is not PowerStatus.QUEUED
    return is_begun and step.status in _NOTHING_SWITCHED


def _counts(record: PowerRecord, step: PowerStep) -> bool:
    """Whether the command is now where the step says, and not further. What the store said of the end gives way.

    But when nothing was switched either way, why the store ended it tells more.
    """
    if record.status.is_pending:
        return _rank(step.status) > _rank(record.status)
    nothing_switched = record.status in _NOTHING_SWITCHED and step.status in _NOTHING_SWITCHED
    return step.status is record.status or not nothing_switched


def _furthest(record: PowerRecord, step: PowerStep) -> PowerStatus:
    """The step's status, or a later one of those passed, where a command that the store had ended goes on."""
    if not step.status.is_pending:
        return step.status
    return max((each.status for each in record.steps if each.status.is_pending), key=_rank)


def _rank(status: PowerStatus) -> int:
    return _ORDER.get(status, _AN_END)
