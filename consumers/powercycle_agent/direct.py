"""Direct mode: this process drives the switches itself, with the agent's executor, locks and journal.

So a port is never driven by both, and a run that is killed in the middle is carried on by this host's agent, or by the next
run: the port comes back on, and the lab hears of it when it can.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from consumers.powercycle_agent.drivers.errors import DriverError
from consumers.powercycle_agent.drivers.protocol import PowerDriver
from consumers.powercycle_agent.executor import Executor, Reboot, steps_of
from consumers.powercycle_agent.inventory import Controller, Inventory, Outlet
from consumers.powercycle_agent.journal import Entry, Journal
from consumers.powercycle_agent.lab_client import Lab
from consumers.powercycle_agent.lines import OpenDriver
from consumers.powercycle_agent.locks import ControllerBusy, Locks
from consumers.powercycle_agent.old_messages import say, say_step
from consumers.powercycle_agent.ordering import Problem
from consumers.powercycle_agent.probing import trouble_of
from consumers.powercycle_agent.registry import close_driver
from consumers.powercycle_agent.succession import advice, home_of
from consumers.powercycle_agent.switching import Patience
from pipeline.clock import Clock
from pipeline.errors import LabkeeperError, Rejected, Retryable
from schemas.ids import new_ulid
from schemas.power import PowerAction, PowerCommand, PowerMoment, PowerStatus, PowerStep

_LOCK_S: Final = 600.0
"""How long somebody else may drive the controller before we give up."""
_LEFTOVER_LOCK_S: Final = 30.0
_LEFTOVER_ON_S: Final = 15.0
"""For a port that an earlier run left off: after that, the next run or the agent tries again."""
_PROBE_S: Final = 20.0
_TOLD_FOR: Final = timedelta(days=7)
"""What the lab has not taken by then is not kept for it any longer."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for."""

    who: str
    why: str = ""
    delay_s: float | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """Where we work."""

    inventory: Inventory
    state_dir: Path
    name: str
    """Signs what is told: the name of this host's agent."""
    clock: Clock
    open_driver: OpenDriver
    reboot: Reboot | None = None
    patience: Patience = field(default_factory=Patience)


class Direct:
    """One run. `close` lets go of what it holds."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._journal = Journal(host.state_dir / "journal")
        self._locks = Locks(host.state_dir / "locks")
        self._entries: dict[str, Entry] = {}
        """What we have done, and the lab does not know."""

    # --- what is left from before --------------------------------------------------------------------------------------

    async def carry_on(self, *, agents_too: bool) -> None:
        """Finish what runs left that died; `agents_too`: and switch on what an agent left off that died.

        Raises `JournalUnwritable`.
        """
        found = await asyncio.to_thread(self._journal.adopt, now=self._host.clock.now())
        ours = [entry for entry in found if agents_too or entry.intent.brings_command]
        for entry in found:
            if entry not in ours:
                entry.release()
        async with asyncio.TaskGroup() as tasks:
            for entry in ours:
                tasks.create_task(self._finish(entry))

    async def _finish(self, entry: Entry) -> None:
        is_ours = entry.intent.brings_command
        try:
            if entry.owes or (is_ours and entry.end is None):
                say(f"{entry.command.machine_id}: carrying on with what an earlier run left")
                problem = await self._restore(entry)
                if problem:
                    say(f"{entry.command.machine_id}: its port may be off: {problem}")
        finally:
            if is_ours:
                self._entries[entry.command.id] = entry
            else:
                entry.release()

    async def _restore(self, entry: Entry) -> Problem:
        controller = home_of(entry, self._host.inventory)
        if controller is None:
            return advice(entry)
        outlet = Outlet(entry.command.machine_id, controller, entry.intent.port)
        try:
            async with self._opened(controller) as driver, self._held(controller, _LEFTOVER_LOCK_S):
                return await self._switch_on(entry, outlet, driver)
        except (DriverError, LabkeeperError) as error:
            return str(error)

    async def _switch_on(self, entry: Entry, outlet: Outlet, driver: PowerDriver) -> Problem:
        executor = self._executor(Patience(on=_LEFTOVER_ON_S))
        if entry.end is None and entry.intent.brings_command:
            await executor.resume(entry, outlet, driver, is_wanted=False)
            return entry.moments[-1].text if entry.owes else ""
        return await executor.settle(entry, driver, reads_back=outlet.controller.reads_back)

    # --- what is asked for now -----------------------------------------------------------------------------------------

    async def cycle(self, ids: Sequence[str], wish: Wish) -> dict[str, Problem]:
        """Cycle them all, whatever becomes of each; what went wrong, by id. One after another on each controller.

        Cancelled, it switches on first what it has switched off.
        """
        outlets = [outlet for each in ids if (outlet := self._host.inventory.outlet(each)) is not None]
        problems: dict[str, Problem] = dict.fromkeys(ids, "its machine is not in the configuration")
        async with asyncio.TaskGroup() as tasks:
            for name in dict.fromkeys(outlet.controller.name for outlet in outlets):
                some = [outlet for outlet in outlets if outlet.controller.name == name]
                tasks.create_task(self._in_turn(some, wish, problems))
        return problems

    async def _in_turn(self, outlets: Sequence[Outlet], wish: Wish, problems: dict[str, Problem]) -> None:
        controller = outlets[0].controller
        try:
            async with self._opened(controller) as driver:
                trouble = await self._trouble_of(controller, driver)
                for outlet in outlets:
                    problems[outlet.machine_id] = trouble or await self._one(outlet, driver, wish)
        except DriverError as error:
            problems.update(dict.fromkeys((outlet.machine_id for outlet in outlets), str(error)))

    async def _trouble_of(self, controller: Controller, driver: PowerDriver) -> Problem:
        """Find out before anything is switched whether the controller answers: a person waits."""
        try:
            async with self._held(controller, _LOCK_S):
                return await trouble_of(driver, _PROBE_S)
        except LabkeeperError as error:
            return str(error)

    async def _one(self, outlet: Outlet, driver: PowerDriver, wish: Wish) -> Problem:
        executor = self._executor(self._host.patience)
        try:
            async with self._held(outlet.controller, _LOCK_S):
                done = await executor.carry_out(
                    self._command(outlet, wish), outlet, driver, brings_command=True
                )
        except LabkeeperError as error:
            return str(error)
        end = done if isinstance(done, PowerMoment) else done.moments[-1]
        return "" if end.status is PowerStatus.DONE else end.text

    def _command(self, outlet: Outlet, wish: Wish) -> PowerCommand:
        now = self._host.clock.now()
        return PowerCommand(
            id=new_ulid(),
            machine_id=outlet.machine_id,
            action=PowerAction.CYCLE,
            delay_s=wish.delay_s,
            who=wish.who,
            why=wish.why,
            requested_at=now,
            expires_at=now + timedelta(seconds=_LOCK_S),
        )

    # --- what the lab should know --------------------------------------------------------------------------------------

    async def report(self, lab: Lab | None) -> None:
        """Tell what was done here; what is not taken now stays in the journal, for this host's agent or the next run."""
        untold = [
            entry for entry in self._entries.values() if entry.end is not None and not entry.is_reported
        ]
        for entry in untold:
            reason = "" if lab is None else await self._told(entry, lab)
            if reason and self._host.clock.now() < entry.command.requested_at + _TOLD_FOR:
                say(
                    f"Could not report to the lab ({reason}). What was done is kept in {self._host.state_dir}, and told by this "
                    "host's agent, or by the next run. If there is no lab, say so with --url ''."
                )
                return
            await asyncio.to_thread(entry.mark_reported)

    async def _told(self, entry: Entry, lab: Lab) -> str:
        """Why it was not; empty: it was, or nobody will ever take it."""
        try:
            await lab.report(steps_of(entry, self._host.name))
        except Retryable as error:
            return str(error)
        except Rejected as error:
            say(f"The lab does not take what was done to {entry.command.machine_id}: {error}")
        return ""

    def close(self) -> None:
        """Leave what is not over to whoever comes next."""
        for entry in self._entries.values():
            entry.release()

    # --- what it works with --------------------------------------------------------------------------------------------

    def _executor(self, patience: Patience) -> Executor:
        host = self._host
        return Executor(
            self._journal, host.clock, self._tell, agent=host.name, reboot=host.reboot, patience=patience
        )

    def _tell(self, step: PowerStep, entry: Entry | None) -> None:
        if entry is not None:
            self._entries[entry.command.id] = entry
            say_step(step.machine_id, step.status, step.text)

    @asynccontextmanager
    async def _opened(self, controller: Controller) -> AsyncIterator[PowerDriver]:
        driver = self._host.open_driver(controller)
        try:
            yield driver
        finally:
            await close_driver(driver)

    @asynccontextmanager
    async def _held(self, controller: Controller, patience_s: float) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._locks.hold(controller.name))
            except ControllerBusy as error:
                say(f"Waiting: {error}")
                held = self._locks.hold(controller.name, patience_s=patience_s)
                await stack.enter_async_context(held)
            yield
