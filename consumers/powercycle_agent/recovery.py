"""What a process that died has left in the journal, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from consumers.powercycle_agent.controllers import Resume
from consumers.powercycle_agent.delivery import Delivery
from consumers.powercycle_agent.executor import steps_of
from consumers.powercycle_agent.journal import Entry, Journal, JournalUnwritable
from consumers.powercycle_agent.lines import Lines
from pipeline import logs
from pipeline.clock import Clock
from schemas.power import PowerAction, PowerStatus

log = logs.get_logger()


@dataclass(slots=True)
class Recovery:
    """Goes through the journal, at the start and again and again: the `powercycle` command of this host may die as well."""

    journal: Journal
    delivery: Delivery
    clock: Clock
    agent: str
    _undecided: list[Entry] = field(default_factory=list)
    """Begun and not known to be off: what becomes of them depends on whether the lab still waits for them."""

    async def begin(self, lines: Lines) -> None:
        """Take up what is left: a port that may be off comes first, and waits for nobody."""
        for entry in await self.abandoned():
            if entry.end is not None:
                self._tell(entry)
                if entry.owes:
                    lines.owe(entry)
                continue
            log.warning("command_interrupted", command=entry.command.id, machine=entry.command.machine_id)
            self._tell(entry)
            if entry.intent.brings_command:
                lines.add(Resume(entry, is_wanted=False))
            elif _goes_on(entry):
                lines.add(Resume(entry, is_wanted=True))
            else:
                self._undecided.append(entry)

    def decide(self, lines: Lines, pending: Collection[str]) -> None:
        """Go on with the rest, now that it is known which commands the lab waits for."""
        undecided, self._undecided = self._undecided, []
        for entry in undecided:
            lines.add(Resume(entry, is_wanted=entry.command.id in pending))

    def busy_with(self) -> set[str]:
        """Ids of the commands that wait for a decision."""
        return {entry.command.id for entry in self._undecided}

    def let_go(self) -> None:
        """Leave what was not decided to whoever comes next."""
        for entry in self._undecided:
            entry.release()
        self._undecided.clear()

    async def abandoned(self) -> list[Entry]:
        """What nobody works on, locked by us from now on."""
        try:
            return await asyncio.to_thread(self.journal.adopt, now=self.clock.now())
        except JournalUnwritable as error:
            log.error("journal_not_read", reason=str(error))  # noqa: TRY400  # no bug
            return []

    def _tell(self, entry: Entry) -> None:
        """Once more, what may not have been heard."""
        if not entry.is_reported:
            for step in steps_of(entry, self.agent):
                self.delivery.step(step, entry)


def _goes_on(entry: Entry) -> bool:
    """Whether the rest of it must be done, whoever waits for it: the port is off, or is to be on anyway."""
    return entry.command.action is PowerAction.ON or (
        entry.command.action is PowerAction.CYCLE and entry.reached is not PowerStatus.ACCEPTED
    )
