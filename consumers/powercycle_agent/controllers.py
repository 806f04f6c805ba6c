"""The controllers at work: each has its open driver, its queue, and one task that does one thing at a time.

What comes first goes first; in between, when nothing waits, the controller is probed, and a probe gives way to a command.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

from consumers.powercycle_agent.drivers.protocol import PowerDriver
from consumers.powercycle_agent.executor import Executor
from consumers.powercycle_agent.inventory import Controller, Outlet
from consumers.powercycle_agent.jobs import Job, Order, Resume, TakeOver
from consumers.powercycle_agent.journal import AlreadyKnown, Entry
from consumers.powercycle_agent.locks import ControllerBusy, Locks
from consumers.powercycle_agent.probing import States, trouble_of
from consumers.powercycle_agent.registry import close_driver
from consumers.powercycle_agent.settings import AgentSettings
from consumers.powercycle_agent.switching import Relinquished
from pipeline import logs
from pipeline.broker.waiting import first_of, is_set_within
from pipeline.clock import Clock
from pipeline.errors import LabkeeperError
from schemas.power import PowerCommand, PowerStatus

log = logs.get_logger()

_LOCK_S: Final = 60.0
_BUSY_PAUSE_S: Final = 5.0
_JITTER: Final = 0.2


@dataclass(frozen=True, slots=True)
class Crew:
    """What all controllers work with."""

    executor: Executor
    locks: Locks
    states: States
    clock: Clock
    settings: AgentSettings


class Others(Protocol):
    """What a controller that leaves the configuration needs of those that stay."""

    def add(self, job: Job) -> None:
        """Give a job that was not begun to whoever has its machine now."""
        ...

    def take_over(self, debt: Entry, former: Controller) -> bool:
        """Whether one of them sees to what `former` could not switch on."""
        ...

    def tell_gone(self, controller: Controller, trouble: str) -> None:
        """It is gone, but for ports that may be off: `trouble` says which, and why."""
        ...


class Line:
    """One controller."""

    def __init__(
        self, controller: Controller, driver: PowerDriver | None, trouble: str, crew: Crew, others: Others
    ) -> None:
        """Without a driver, `trouble` says why there is none."""
        self.controller = controller
        self.debts: dict[str, Entry] = {}
        """Ended commands whose port may be off and should be on, by id."""
        self.is_aside = asyncio.Event()
        """Set: retired, and done with all that somebody else could go on with."""
        self._driver = driver
        self._trouble = trouble
        self._crew = crew
        self._others = others
        self._queue: dict[str, Job] = {}
        """By the command's id; what came first is first."""
        self._current: Job | None = None
        self._withdrawn: set[str] = set()
        self._wake = asyncio.Event()
        self._is_retired = False
        self._probe_at = 0.0

    def add(self, job: Job) -> None:
        """Do it when its turn comes."""
        if self._queue.setdefault(job.command.id, job) is not job:
            self._let_go(job)
        self._wake.set()

    def owe(self, entry: Entry) -> None:
        """Try at every probe until this entry's port is on."""
        self.debts[entry.command.id] = entry
        self._probe_at = 0.0
        self._wake.set()

    def withdraw(self, command_id: str) -> None:
        """Do not begin this one, if it is waiting."""
        self._withdrawn.add(command_id)
        job = self._queue.get(command_id)
        if isinstance(job, Order):
            del self._queue[command_id]
            self._leave_undone(job.command)

    def is_busy_with(self, command_id: str) -> bool:
        """Whether it waits, is under way, or has left a port owed."""
        is_current = self._current is not None and self._current.command.id == command_id
        return is_current or command_id in self._queue or command_id in self.debts

    def retire(self) -> list[Order]:
        """Come to an end with what somebody has begun, and with what is owed; return what nobody has."""
        self._is_retired = True
        orders = [job for job in self._queue.values() if isinstance(job, Order)]
        for order in orders:
            del self._queue[order.command.id]
        self._wake.set()
        return orders

    def look_again(self) -> None:
        """Retired: there are others than before, who may see to what is owed."""
        self.is_aside.clear()
        self._wake.set()

    async def run(self) -> None:
        """Work until retired and nothing is owed, or somebody else sees to it."""
        try:
            while (job := await self._next()) is not None:
                self._current = job
                try:
                    await self._do(job)
                finally:
                    self._current = None
                    self._withdrawn.discard(job.command.id)
                    self._let_go(job)
            await self._leave()
        finally:
            waiting, self._queue = self._queue, {}
            for job in waiting.values():
                self._let_go(job)
            for entry in self.debts.values():
                entry.release()
            await self._close()

    def _let_go(self, job: Job) -> None:
        """What the journal keeps and we do not go on with, somebody may take."""
        is_kept = self._queue.get(job.command.id) is job
        if isinstance(job, Resume) and job.entry.end is None and not is_kept:
            job.entry.release()

    async def _next(self) -> Job | None:
        """What to do now; meanwhile the controller is probed. None: retired."""
        while True:
            self._wake.clear()
            if self._queue:
                return self._queue.pop(next(iter(self._queue)))
            if self._is_retired:
                return None
            pause = self._probe_at - time.monotonic()
            if pause <= 0:
                await self._probe_unless_woken()
            else:
                await is_set_within(self._wake, pause)

    # --- commands ------------------------------------------------------------------------------------------------------

    async def _do(self, job: Job) -> None:
        if self._driver is None:
            self._turn_down(job, f"{self.controller.name} cannot be used: {self._trouble}")
            return
        try:
            async with self._crew.locks.hold(self.controller.name, patience_s=self._patience_for(job)):
                ended = await self._drive(job, self._driver)
        except ControllerBusy as error:
            self._postpone(job, str(error))
        except AlreadyKnown:
            log.debug("command_known", command=job.command.id)
        except Relinquished as error:
            log.warning("command_relinquished", command=job.command.id, reason=str(error))
        except LabkeeperError as error:
            self._turn_down(job, str(error))
        else:
            if ended is not None:
                await self._account_for(ended)

    async def _drive(self, job: Job, driver: PowerDriver) -> Entry | None:
        executor = self._crew.executor
        match job:
            case Order(command) if command.id in self._withdrawn:
                self._leave_undone(command)
                return None
            case Order() if self._is_retired:
                self._others.add(job)
                return None
            case Order(command):
                done = await executor.carry_out(command, self._outlet_of(command), driver)
            case TakeOver(record, restores):
                outlet = self._outlet_of(record.command)
                restores = restores or self._is_retired
                done = await executor.take_over(record, outlet, driver, restores=restores)
            case Resume(entry, is_wanted):
                outlet = Outlet(entry.command.machine_id, self.controller, entry.intent.port)
                is_wanted = is_wanted and self._is_still_at(outlet)
                done = await executor.resume(entry, outlet, driver, is_wanted=is_wanted)
            case _:
                assert_never(job)
        return done if isinstance(done, Entry) else None

    def _patience_for(self, job: Job) -> float:
        if isinstance(job, Order):
            return max(0.0, (job.command.expires_at - self._crew.clock.now()).total_seconds())
        return _LOCK_S

    def _postpone(self, job: Job, reason: str) -> None:
        log.warning("controller_busy", command=job.command.id, reason=reason)
        if isinstance(job, Order):
            self._decline(job.command, PowerStatus.EXPIRED, f"it was not begun in time: {reason}")
        else:
            self.add(job)

    def _turn_down(self, job: Job, reason: str) -> None:
        match job:
            case Order(command):
                self._decline(command, PowerStatus.REFUSED, reason)
            case TakeOver(record):
                log.error("command_not_taken_over", command=record.command.id, reason=reason)
            case Resume(entry):
                log.error("command_not_carried_on", command=entry.command.id, reason=reason)
                entry.release()  # the journal keeps it

    def _leave_undone(self, command: PowerCommand) -> None:
        """It was withdrawn: by whom and why, the lab knows and we do not."""
        self._decline(command, PowerStatus.CANCELLED, "")

    def _decline(self, command: PowerCommand, status: PowerStatus, text: str) -> None:
        self._crew.executor.decline(command, status, text)

    def _outlet_of(self, command: PowerCommand) -> Outlet:
        return Outlet(command.machine_id, self.controller, self.controller.ports[command.machine_id])

    def _is_still_at(self, outlet: Outlet) -> bool:
        """Whether to switch it off is to switch its machine off, and not another one that hangs there by now."""
        return not self._is_retired and self.controller.ports.get(outlet.machine_id) == outlet.port

    async def _account_for(self, ended: Entry) -> None:
        """Remember what its port is owed, or that nothing is owed to it any more."""
        if ended.owes:
            self.debts[ended.command.id] = ended
        elif ended.end is not None and ended.end.status is PowerStatus.DONE:
            for entry in [each for each in self.debts.values() if each.intent.port == ended.intent.port]:
                await asyncio.to_thread(entry.settle)
        self._forget_settled()
        failed = ended.end is not None and ended.end.status is PowerStatus.FAILED
        if failed or self._crew.states.is_in_error(self.controller):
            self._probe_at = 0.0

    def _forget_settled(self) -> None:
        self.debts = {each.command.id: each for each in self.debts.values() if each.owes}

    # --- in between ----------------------------------------------------------------------------------------------------

    async def _probe_unless_woken(self) -> None:
        probing = asyncio.ensure_future(self._probe())
        waking = asyncio.ensure_future(self._wake.wait())
        await first_of(probing, waking)
        if not probing.cancelled():
            probing.result()

    async def _probe(self) -> None:
        settings = self._crew.settings
        trouble = self._trouble
        if self._driver is not None:
            try:
                async with self._crew.locks.hold(self.controller.name):
                    trouble = await trouble_of(self._driver, settings.probe_limit.total_seconds())
                    trouble = await self._pay_debts(self._driver) or trouble
            except ControllerBusy:  # and so it answers somebody
                self._probe_at = time.monotonic() + _BUSY_PAUSE_S
                return
            except Relinquished:
                self._probe_at = time.monotonic() + _BUSY_PAUSE_S
                return
            except LabkeeperError as error:
                trouble = str(error)
        self._crew.states.found(self.controller, trouble)
        every = settings.probe_owing_every if self.debts else settings.probe_every
        spread = random.uniform(1 - _JITTER, 1)  # noqa: S311  # spreads load, guards nothing
        self._probe_at = time.monotonic() + every.total_seconds() * spread

    async def _pay_debts(self, driver: PowerDriver) -> str:
        """Switch on what should be on. What still is not, in words.

        Retired, no further than to the first that fails, which is the last next time: somebody waits for us to step aside.
        """
        troubles = []
        for command_id, entry in list(self.debts.items()):
            why = await self._crew.executor.settle(entry, driver, reads_back=self.controller.reads_back)
            if not why:
                continue
            machine = entry.command.machine_id
            troubles.append(
                f"port {entry.intent.port} of {machine} may be off and cannot be switched on: {why}"
            )
            if self._is_retired:
                self.debts[command_id] = self.debts.pop(command_id)
                break
        self._forget_settled()
        return "; ".join(troubles)

    # --- at the end ----------------------------------------------------------------------------------------------------

    async def _leave(self) -> None:
        """Out of the configuration: switch on what is owed, with the settings that we have, until it is on or somebody else
        may do better.
        """
        told = None
        while True:
            self._wake.clear()
            trouble = await self._settle_up() if self.debts else ""
            self._pass_on_debts()
            trouble = trouble if self.debts else ""
            if trouble != told:
                self._others.tell_gone(self.controller, trouble)
                told = trouble
            self.is_aside.set()
            if not self.debts:
                return
            await is_set_within(self._wake, self._crew.settings.probe_owing_every.total_seconds())

    def _pass_on_debts(self) -> None:
        for command_id, entry in list(self.debts.items()):
            if self._others.take_over(entry, self.controller):
                del self.debts[command_id]

    async def _settle_up(self) -> str:
        """Once; what still may be off, in words."""
        if self._driver is None:
            return self._trouble
        try:
            async with self._crew.locks.hold(self.controller.name, patience_s=_LOCK_S):
                return await self._pay_debts(self._driver)
        except (LabkeeperError, Relinquished) as error:
            return str(error)

    async def _close(self) -> None:
        if self._driver is not None:
            await close_driver(self._driver)
