"""Carries out one command: journal, off, wait, on, and tells each step. Knows neither broker nor store nor other commands.

A port that was switched off is switched on again, come what may: whatever fails, whoever cancels. Where even that fails
the journal keeps the debt. Whoever calls holds the controller's lock (`locks.Locks`), so that one command at a time drives it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from consumers.powercycle_agent.drivers.errors import DriverError
from consumers.powercycle_agent.drivers.protocol import PowerDriver
from consumers.powercycle_agent.drivers.settings import SoftReboot
from consumers.powercycle_agent.inventory import Outlet
from consumers.powercycle_agent.journal import Entry, Intent, Journal, JournalUnwritable
from consumers.powercycle_agent.plain_text import told
from consumers.powercycle_agent.switching import (
    Mandate,
    Met,
    Patience,
    Relinquished,
    Run,
    Switch,
    Trouble,
    Unlimited,
    names_of,
)
from pipeline import logs
from pipeline.broker.waiting import first_of
from pipeline.clock import Clock
from schemas.power import PowerAction, PowerCommand, PowerMoment, PowerRecord, PowerStatus, PowerStep

Result = TypeVar("Result")

log = logs.get_logger()

_STEPS_BEFORE: Final = 4

NOT_KNOWN: Final = "the port's state is not known"
"""Said of a command that failed and may have left its port off."""
_CARRIED_ON: Final = "interrupted, and carried on"


Tell = Callable[[PowerStep, Entry | None], None]
"""Takes a step that is safe in the journal; with None nothing was begun, and no journal knows of it."""

Reboot = Callable[[str, SoftReboot], Awaitable[str]]
"""Ask the machine to reboot over SSH. Empty: it went away and came back; otherwise why the port must be cycled after all."""


class Executor:
    """Drives ports, for as many commands at once as there are controllers."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        tell: Tell,
        *,
        agent: str,
        reboot: Reboot | None = None,
        patience: Patience = Patience(),  # noqa: B008  # frozen
        mandate: Mandate | None = None,
        met: Met | None = None,
    ) -> None:
        """`agent` signs what is told."""
        self._journal = journal
        self._clock = clock
        self._tell = tell
        self._agent = agent
        self._reboot = reboot
        self._patience = patience
        self._switch = Switch(clock, patience, mandate or Unlimited(), met)

    async def carry_out(
        self, command: PowerCommand, outlet: Outlet, driver: PowerDriver, *, brings_command: bool = False
    ) -> Entry | PowerMoment:
        """Do it; return its entry, which has an end, or the end of a command that was not begun.

        Raises `Relinquished`, `journal.AlreadyKnown`. Cancelled, it switches the port on first, within bounds.
        """
        now = self._clock.now()
        if now >= command.expires_at:
            return self.decline(
                command, PowerStatus.EXPIRED, "it was not begun in time", brings_command=brings_command
            )
        intent = self._intent(command, outlet, brings_command=brings_command)

        async def work(hurry: asyncio.Event) -> Entry | PowerMoment:
            accepted = PowerMoment(status=PowerStatus.ACCEPTED, at=now)
            try:
                entry = await asyncio.to_thread(self._journal.begin, intent, accepted)
            except JournalUnwritable as error:
                return self.decline(command, PowerStatus.REFUSED, str(error), brings_command=brings_command)
            self._tell(step_of(entry, accepted, self._agent), entry)
            return await self._drive(Run(entry, outlet, driver, hurry, is_untouched=True), is_wanted=True)

        return await self._to_the_end(work)

    async def take_over(
        self, record: PowerRecord, outlet: Outlet, driver: PowerDriver, *, restores: bool = False
    ) -> Entry | PowerMoment:
        """Finish what an agent began that is gone; `restores`: only see to it that the port is on. Raises as `carry_out`."""
        before = [moment for moment in record.steps if moment.status.is_pending][-_STEPS_BEFORE:]
        intent = self._intent(record.command, outlet, before=before, restores=restores)

        async def work(hurry: asyncio.Event) -> Entry | PowerMoment:
            try:
                entry = await asyncio.to_thread(self._journal.begin, intent)
            except JournalUnwritable as error:  # it has been begun: refused is not what it is
                raise Relinquished(str(error)) from error
            run = Run(entry, outlet, driver, hurry, notes=[_CARRIED_ON])
            return await self._drive(run, is_wanted=not restores)

        return await self._to_the_end(work)

    async def resume(self, entry: Entry, outlet: Outlet, driver: PowerDriver, *, is_wanted: bool) -> Entry:
        """Finish what a process began that is gone. Not `is_wanted`: the lab takes it for ended, so see to the port only.

        Raises `Relinquished`.
        """

        async def work(hurry: asyncio.Event) -> Entry:
            run = Run(entry, outlet, driver, hurry, notes=[_CARRIED_ON])
            return await self._drive(run, is_wanted=is_wanted)

        return await self._to_the_end(work)

    async def settle(self, entry: Entry, driver: PowerDriver, *, reads_back: bool) -> str:
        """Try once to switch a port on that is owed. Empty: it is on; otherwise why not. Raises `Relinquished`."""
        try:
            await self._switch.on_once(entry.intent.port, driver, reads_back=reads_back)
        except DriverError as error:
            return str(error)
        await asyncio.to_thread(entry.settle)
        log.info("debt_settled", machine=entry.command.machine_id, controller=entry.intent.controller)
        return ""

    def _intent(
        self,
        command: PowerCommand,
        outlet: Outlet,
        *,
        brings_command: bool = False,
        before: Sequence[PowerMoment] = (),
        restores: bool = False,
    ) -> Intent:
        return Intent(
            command=command,
            agent=self._agent,
            controller=outlet.controller.name,
            port=outlet.port,
            brings_command=brings_command,
            before=list(before),
            restores=restores,
        )

    def decline(
        self, command: PowerCommand, status: PowerStatus, text: str, *, brings_command: bool = False
    ) -> PowerMoment:
        """End a command of which nothing was begun."""
        moment = PowerMoment(status=status, at=self._clock.now(), text=told(text))
        step = PowerStep(
            command_id=command.id,
            machine_id=command.machine_id,
            status=status,
            at=moment.at,
            agent=self._agent,
            text=moment.text,
            command=command if brings_command else None,
        )
        self._tell(step, None)
        return moment

    # --- from begin to end ---------------------------------------------------------------------------------------------

    async def _to_the_end(self, work: Callable[[asyncio.Event], Coroutine[Any, Any, Result]]) -> Result:
        """In a task of its own: to cancel it is to hurry it."""
        hurry = asyncio.Event()
        task = asyncio.create_task(work(hurry))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            hurry.set()
            await _ended_within(task, self._patience.ending)
            raise

    async def _drive(self, run: Run, *, is_wanted: bool) -> Entry:
        try:
            await self._act(run, is_wanted=is_wanted)
        finally:
            if run.entry.end is None:
                run.entry.release()
        return run.entry

    async def _act(self, run: Run, *, is_wanted: bool) -> None:
        match run.action:
            case PowerAction.CYCLE:
                await self._cycle(run, is_wanted=is_wanted)
            case PowerAction.ON:
                await self._end_with(run, await self._switch.on(run), "the port is not known to be on")
            case PowerAction.OFF if is_wanted:
                await self._end_with(run, await self._switch.off(run), "the port is not known to be off")
            case PowerAction.OFF:
                await self._end(run, PowerStatus.FAILED, "interrupted; the port is not known to be off")

    async def _cycle(self, run: Run, *, is_wanted: bool) -> None:
        if run.entry.reached is PowerStatus.ACCEPTED:
            if not is_wanted or self._clock.now() >= run.entry.command.expires_at:
                await self._restore(
                    run, Trouble("interrupted before the port was known to be off", is_untouched=False)
                )
                return
            if await self._rebooted(run):
                await self._end(run, PowerStatus.DONE, "rebooted over SSH; its port was not touched")
                return
            trouble = await self._switch.off(run)
            if trouble is not None:
                await self._restore(run, trouble)
                return
            run.off_since = time.monotonic()
            await self._step(run, PowerStatus.OFF)
        await self._switch.stay_off(run)
        await self._light_up(run)

    async def _light_up(self, run: Run) -> None:
        trouble = await self._switch.on(run)
        if trouble is not None:
            log.error("port_stays_off", **names_of(run), reason=trouble.text)
            text = (
                f"the port was switched off and cannot be switched on: {trouble.text}; trying on until it is"
            )
            await self._end(run, PowerStatus.FAILED, text, settles=False)
            return
        await self._step(run, PowerStatus.ON, settles=True)
        await self._end(run, PowerStatus.DONE, "; ".join(run.notes))

    async def _restore(self, run: Run, trouble: Trouble) -> None:
        """The port is not known to be off: see to it that it is on, and end as failed."""
        if trouble.is_untouched:
            await self._end(run, PowerStatus.FAILED, f"{trouble.text}; nothing was switched")
            return
        again = await self._switch.on(run)
        if again is None:
            await self._end(run, PowerStatus.FAILED, f"{trouble.text}; the port is on")
            return
        log.error("port_state_unknown", **names_of(run), reason=again.text)
        why = "" if again.text == trouble.text else f": {again.text}"
        text = f"{trouble.text}; {NOT_KNOWN}{why}; trying on until it is on"
        await self._end(run, PowerStatus.FAILED, text, settles=False)

    async def _end_with(self, run: Run, trouble: Trouble | None, without: str) -> None:
        if trouble is None:
            await self._end(run, PowerStatus.DONE, "; ".join(run.notes))
            return
        what = "nothing was switched" if trouble.is_untouched else without
        await self._end(run, PowerStatus.FAILED, f"{trouble.text}; {what}")

    async def _rebooted(self, run: Run) -> bool:
        how = run.outlet.controller.soft_reboot
        if how is None or self._reboot is None:
            return False
        rebooting = asyncio.ensure_future(self._reboot(run.outlet.machine_id, how))
        hurrying = asyncio.ensure_future(run.hurry.wait())
        await first_of(rebooting, hurrying)
        if rebooting.cancelled():
            raise Relinquished("asked to end while the machine rebooted")
        trouble = rebooting.result()
        if trouble:
            run.notes.append(f"the machine did not reboot over SSH ({trouble}), so its port was cycled")
        return not trouble

    # --- what is told --------------------------------------------------------------------------------------------------

    async def _step(self, run: Run, status: PowerStatus, text: str = "", *, settles: bool = False) -> None:
        moment = PowerMoment(status=status, at=self._clock.now(), text=told(text))
        await asyncio.to_thread(run.entry.record, moment, settles=settles)
        self._tell(step_of(run.entry, moment, self._agent), run.entry)

    async def _end(self, run: Run, status: PowerStatus, text: str, *, settles: bool = True) -> None:
        await self._step(run, status, text, settles=settles)


def steps_of(entry: Entry, agent: str) -> list[PowerStep]:
    """All that happened to a command, to tell it again. Signed by whoever tells it."""
    return [step_of(entry, moment, agent) for moment in entry.moments]


def step_of(entry: Entry, moment: PowerMoment, agent: str) -> PowerStep:
    """What is told of a moment of a command."""
    return PowerStep(
        command_id=entry.command.id,
        machine_id=entry.command.machine_id,
        status=moment.status,
        at=moment.at,
        agent=agent,
        text=moment.text,
        command=entry.command if entry.intent.brings_command else None,
    )


async def _ended_within(task: asyncio.Task[Any], seconds: float) -> None:
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # whoever cancelled us asks no more
