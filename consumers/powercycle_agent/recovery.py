"""What processes that are gone have left undone, and what becomes of it: by our journal, and by what the lab remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from consumers.powercycle_agent.delivery import Delivery
from consumers.powercycle_agent.executor import NOT_KNOWN, steps_of
from consumers.powercycle_agent.inventory import Outlet
from consumers.powercycle_agent.jobs import Resume
from consumers.powercycle_agent.journal import AlreadyKnown, Entry, Intent, Journal, JournalUnwritable
from consumers.powercycle_agent.lines import Lines
from pipeline import logs
from pipeline.clock import Clock
from schemas.power import PowerAction, PowerMoment, PowerRecord, PowerStatus

log = logs.get_logger()


@dataclass(slots=True)
class Recovery:
    """Goes through the journal, at the start and again and again: the `powercycle` command of this host may die as well."""

    journal: Journal
    delivery: Delivery
    clock: Clock
    agent: str
    _undecided: dict[str, Entry] = field(default_factory=dict)
    """Begun and not known to be off, by command: what becomes of them depends on whether the lab still waits for them."""

    async def begin(self, lines: Lines, lately: Sequence[PowerRecord] = ()) -> None:
        """Take up what is left: a port that may be off comes first, and waits for nobody.

        `lately`: how commands ended while we were away; a port that was driven since owes nothing to what came before.
        """
        for entry in await self.abandoned():
            done = _done_by_another(entry, lately)
            if done is not None:
                await asyncio.to_thread(_copy_end, entry, done)
                continue
            if entry.owes and _is_superseded(entry, lately, lines.users_of(entry)):
                await asyncio.to_thread(self._write_off, entry)
            if not entry.is_reported:
                self._tell(entry)
            if entry.end is None:
                self._carry_on(entry, lines)
            elif entry.owes:
                lines.owe(entry)

    async def inherit(self, lines: Lines, lately: Sequence[PowerRecord]) -> None:
        """Owe what a process of our name owed, on a host whose journal we do not have: its machine's last cycle left it off."""
        for record in _last_ones(lately):
            outlet = lines.outlet(record.command.machine_id)
            if outlet is None or record.agent != self.agent or not _left_off(record):
                continue
            try:
                entry = await asyncio.to_thread(self._inherit, record, outlet)
            except AlreadyKnown:
                continue
            except JournalUnwritable as error:
                log.error("debt_not_kept", command=record.command.id, reason=str(error))  # noqa: TRY400  # no bug
                continue
            log.warning("debt_inherited", command=record.command.id, machine=outlet.machine_id)
            lines.owe(entry)

    def decide(self, lines: Lines, pending: Collection[str]) -> None:
        """Go on with the rest, now that it is known which commands the lab waits for."""
        undecided, self._undecided = self._undecided, {}
        for entry in undecided.values():
            lines.add(Resume(entry, is_wanted=entry.command.id in pending))

    async def tell_ended(self) -> None:
        """Whoever drives the ports now: what we have done must be known."""
        for entry in await self.abandoned():
            if entry.end is not None and not entry.owes:
                self._tell(entry)
            else:
                entry.release()

    def is_undecided(self, command_id: str) -> bool:
        """Whether the command waits for a decision."""
        return command_id in self._undecided

    def let_go(self) -> None:
        """Leave what was not decided to whoever comes next."""
        for entry in self._undecided.values():
            entry.release()
        self._undecided.clear()

    async def abandoned(self) -> list[Entry]:
        """What nobody works on, locked by us from now on."""
        try:
            return await asyncio.to_thread(self.journal.adopt, now=self.clock.now())
        except JournalUnwritable as error:
            log.error("journal_not_read", reason=str(error))  # noqa: TRY400  # no bug
            return []

    def _carry_on(self, entry: Entry, lines: Lines) -> None:
        log.warning("command_interrupted", command=entry.command.id, machine=entry.command.machine_id)
        if entry.intent.brings_command or entry.intent.restores:
            lines.add(Resume(entry, is_wanted=False))
        elif _goes_on(entry):
            lines.add(Resume(entry, is_wanted=True))
        else:
            self._undecided[entry.command.id] = entry

    def _write_off(self, entry: Entry) -> None:
        text = "interrupted, and its machine's power has been driven since"
        if entry.end is None:
            entry.record(PowerMoment(status=PowerStatus.FAILED, at=self.clock.now(), text=text), settles=True)
        else:
            entry.settle()

    def _inherit(self, record: PowerRecord, outlet: Outlet) -> Entry:
        *before, end = record.steps
        intent = Intent(
            command=record.command,
            agent=self.agent,
            controller=outlet.controller.name,
            port=outlet.port,
            before=[moment for moment in before if moment.status is not PowerStatus.QUEUED],
        )
        entry = self.journal.begin(intent, end)
        entry.mark_reported()
        return entry

    def _tell(self, entry: Entry) -> None:
        """Once more, what may not have been heard."""
        for step in steps_of(entry, self.agent):
            self.delivery.step(step, entry)


def _goes_on(entry: Entry) -> bool:
    """Whether the rest of it must be done, whoever waits for it: the port is off, or is to be on anyway."""
    return entry.command.action is PowerAction.ON or (
        entry.command.action is PowerAction.CYCLE and entry.reached is not PowerStatus.ACCEPTED
    )


def _done_by_another(entry: Entry, lately: Iterable[PowerRecord]) -> PowerRecord | None:
    """The record of a command that we began and somebody else has finished, with the port on; None: nobody has."""
    if entry.end is not None:
        return None
    done = (record for record in lately if record.status is PowerStatus.DONE)
    return next((record for record in done if record.command.id == entry.command.id), None)


def _copy_end(entry: Entry, record: PowerRecord) -> None:
    entry.record(record.steps[-1], settles=True)
    entry.mark_reported()


def _is_superseded(entry: Entry, lately: Iterable[PowerRecord], users: Collection[str]) -> bool:
    """Whether a newer command of who uses the port now was carried out: then it is as somebody wanted it since.

    A machine that hangs on another port by now says nothing of this one.
    """
    return any(
        record.command.machine_id in users
        and record.command.id > entry.command.id
        and record.status is PowerStatus.DONE
        for record in lately
    )


def _last_ones(lately: Iterable[PowerRecord]) -> Iterable[PowerRecord]:
    """The newest of each machine."""
    found: dict[str, PowerRecord] = {}
    for record in sorted(lately, key=lambda record: record.command.id):
        if record.status in {PowerStatus.DONE, PowerStatus.FAILED}:
            found[record.command.machine_id] = record
    return found.values()


def _left_off(record: PowerRecord) -> bool:
    reached = {moment.status for moment in record.steps}
    return (
        record.command.action is PowerAction.CYCLE
        and record.status is PowerStatus.FAILED
        and PowerStatus.ON not in reached
        and (PowerStatus.OFF in reached or NOT_KNOWN in record.text)
    )
