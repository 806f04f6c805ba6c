"""Carries out one command: journal, off, wait, on, and tells each step. Knows neither broker nor store nor other commands.

A port that was switched off is switched on again, come what may: whatever fails, whoever cancels. Where even that fails
the journal keeps the debt. Whoever calls holds the controller's lock (`locks.Locks`), so that one command at a time drives it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from consumers.powercycle_agent.drivers.errors import (
    DriverError,
    NotConfirmed,
    NotInstalled,
    NotReached,
    TurnedAway,
    UnknownPort,
    Unreachable,
)
from consumers.powercycle_agent.drivers.protocol import PortState, PowerDriver
from consumers.powercycle_agent.drivers.settings import SoftReboot
from consumers.powercycle_agent.inventory import Outlet
from consumers.powercycle_agent.journal import Entry, Intent, Journal, JournalUnwritable
from consumers.powercycle_agent.plain_text import plain
from pipeline import logs
from pipeline.broker.waiting import is_set_within
from pipeline.clock import Clock
from pipeline.retry import Backoff
from schemas.power import PowerAction, PowerCommand, PowerMoment, PowerRecord, PowerStatus, PowerStep

Result = TypeVar("Result")

log = logs.get_logger()

_HOPELESS: Final = (TurnedAway, UnknownPort, NotInstalled)
"""Nothing was switched, and trying again will not help."""
_OF_THE_CONTROLLER: Final = (Unreachable, TurnedAway, NotInstalled)
"""The controller cannot be used, not only this port."""
_TEXT_LIMIT: Final = 2000
_STEPS_BEFORE: Final = 4
_HURRIED_PAUSE: Final = 1.0

NOT_KNOWN: Final = "the port's state is not known"
"""Said of a command that failed and may have left its port off."""
_CARRIED_ON: Final = "interrupted, and carried on"


class Relinquished(Exception):
    """We may not drive the port any more, or are ending. The journal keeps the command for whoever goes on with it."""


class Mandate(Protocol):
    """Whether we are the ones to drive these ports."""

    def left(self) -> float:
        """Seconds for which we surely are; 0 or less: not any more."""
        ...


class Unlimited:
    """A person at the keyboard needs nobody's leave."""

    def left(self) -> float:
        """For ever."""
        return math.inf


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long something is tried. All in seconds but `off_tries`."""

    call: float = 30.0
    """One call of a driver. Drivers have limits of their own, mostly 10 s; this one holds for all."""
    off_tries: int = 3
    on: float = 120.0
    """For switching on, and never fewer tries than for off: this is the half that hurts."""
    first_pause: float = 0.5
    longest_pause: float = 15.0
    reserve: float = 10.0
    """A port is switched on early when the mandate has less left: who comes after us may not exist."""
    ending: float = 25.0
    """For what is under way when the process is asked to end."""


Tell = Callable[[PowerStep, Entry | None], None]
"""Takes a step that is safe in the journal; with None nothing was begun, and no journal knows of it."""

Met = Callable[[Entry, Outlet, str], None]
"""Takes how a try at a port went, where that says something of the controller: why it cannot be used, or empty if it answers."""

Reboot = Callable[[str, SoftReboot], Awaitable[str]]
"""Ask the machine to reboot over SSH. Empty: it went away and came back; otherwise why the port must be cycled after all."""


@dataclass(slots=True)
class _Run:
    """A command under way."""

    entry: Entry
    outlet: Outlet
    driver: PowerDriver
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: come to an end, with the port on."""
    is_untouched: bool = False
    """Surely nothing was switched for it so far, by us or by whoever began it."""
    notes: list[str] = field(default_factory=list)
    """What the end has to say beside that it is one."""
    off_since: float | None = None
    """Monotonic."""

    @property
    def action(self) -> PowerAction:
        return self.entry.command.action


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why a port is not in the state that was asked for."""

    text: str
    is_untouched: bool
    """Surely nothing was switched."""


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
        patience: Patience = Patience(),
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
        self._mandate = mandate or Unlimited()
        self._met = met

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
            return await self._drive(_Run(entry, outlet, driver, hurry, is_untouched=True), is_wanted=True)

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
            run = _Run(entry, outlet, driver, hurry, notes=[_CARRIED_ON])
            return await self._drive(run, is_wanted=not restores)

        return await self._to_the_end(work)

    async def resume(self, entry: Entry, outlet: Outlet, driver: PowerDriver, *, is_wanted: bool) -> Entry:
        """Finish what a process began that is gone. Not `is_wanted`: the lab takes it for ended, so see to the port only.

        Raises `Relinquished`.
        """

        async def work(hurry: asyncio.Event) -> Entry:
            run = _Run(entry, outlet, driver, hurry, notes=[_CARRIED_ON])
            return await self._drive(run, is_wanted=is_wanted)

        return await self._to_the_end(work)

    async def settle(self, entry: Entry, driver: PowerDriver, *, reads_back: bool) -> str:
        """Try once to switch a port on that is owed. Empty: it is on; otherwise why not. Raises `Relinquished`."""
        try:
            await self._on_once(entry.intent.port, driver, reads_back=reads_back)
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

    async def _drive(self, run: _Run, *, is_wanted: bool) -> Entry:
        try:
            await self._act(run, is_wanted=is_wanted)
        finally:
            if run.entry.end is None:
                run.entry.release()
        return run.entry

    async def _act(self, run: _Run, *, is_wanted: bool) -> None:
        match run.action:
            case PowerAction.CYCLE:
                await self._cycle(run, is_wanted=is_wanted)
            case PowerAction.ON:
                await self._end_with(run, await self._switch_on(run), "the port is not known to be on")
            case PowerAction.OFF if is_wanted:
                await self._end_with(run, await self._switch_off(run), "the port is not known to be off")
            case PowerAction.OFF:
                await self._end(run, PowerStatus.FAILED, "interrupted; the port is not known to be off")

    async def _cycle(self, run: _Run, *, is_wanted: bool) -> None:
        if run.entry.reached is PowerStatus.ACCEPTED:
            if not is_wanted or self._clock.now() >= run.entry.command.expires_at:
                await self._restore(
                    run, _Trouble("interrupted before the port was known to be off", is_untouched=False)
                )
                return
            if await self._rebooted(run):
                await self._end(run, PowerStatus.DONE, "rebooted over SSH; its port was not touched")
                return
            trouble = await self._switch_off(run)
            if trouble is not None:
                await self._restore(run, trouble)
                return
            run.off_since = time.monotonic()
            await self._step(run, PowerStatus.OFF)
        await self._stay_off(run)
        await self._light_up(run)

    async def _light_up(self, run: _Run) -> None:
        trouble = await self._switch_on(run)
        if trouble is not None:
            log.error("port_stays_off", **_names(run), reason=trouble.text)
            text = (
                f"the port was switched off and cannot be switched on: {trouble.text}; trying on until it is"
            )
            await self._end(run, PowerStatus.FAILED, text, settles=False)
            return
        await self._step(run, PowerStatus.ON, settles=True)
        await self._end(run, PowerStatus.DONE, "; ".join(run.notes))

    async def _restore(self, run: _Run, trouble: _Trouble) -> None:
        """The port is not known to be off: see to it that it is on, and end as failed."""
        if trouble.is_untouched:
            await self._end(run, PowerStatus.FAILED, f"{trouble.text}; nothing was switched")
            return
        again = await self._switch_on(run)
        if again is None:
            await self._end(run, PowerStatus.FAILED, f"{trouble.text}; the port is on")
            return
        log.error("port_state_unknown", **_names(run), reason=again.text)
        why = "" if again.text == trouble.text else f": {again.text}"
        text = f"{trouble.text}; {NOT_KNOWN}{why}; trying on until it is on"
        await self._end(run, PowerStatus.FAILED, text, settles=False)

    async def _end_with(self, run: _Run, trouble: _Trouble | None, without: str) -> None:
        if trouble is None:
            await self._end(run, PowerStatus.DONE, "; ".join(run.notes))
            return
        what = "nothing was switched" if trouble.is_untouched else without
        await self._end(run, PowerStatus.FAILED, f"{trouble.text}; {what}")

    # --- the port ------------------------------------------------------------------------------------------------------

    async def _rebooted(self, run: _Run) -> bool:
        how = run.outlet.controller.soft_reboot
        if how is None or self._reboot is None:
            return False
        rebooting = asyncio.ensure_future(self._reboot(run.outlet.machine_id, how))
        hurrying = asyncio.ensure_future(run.hurry.wait())
        try:
            await asyncio.wait({rebooting, hurrying}, return_when=asyncio.FIRST_COMPLETED)
            if not rebooting.done():
                raise Relinquished("asked to end while the machine rebooted")
            trouble = rebooting.result()
        finally:
            for task in (rebooting, hurrying):
                task.cancel()
            await asyncio.wait({rebooting, hurrying})
        if trouble:
            run.notes.append(f"the machine did not reboot over SSH ({trouble}), so its port was cycled")
        return not trouble

    async def _switch_off(self, run: _Run) -> _Trouble | None:
        if run.hurry.is_set():
            raise Relinquished("asked to end before the port was touched")
        backoff = self._backoff()
        trouble = ""
        for left in reversed(range(self._patience.off_tries)):
            try:
                await self._call(lambda: run.driver.off(run.outlet.port))
            except _HOPELESS as error:
                self._meet(run, error)
                return _Trouble(str(error), run.is_untouched)
            except DriverError as error:
                run.is_untouched = run.is_untouched and isinstance(error, NotReached)
                trouble = str(error)
                self._meet(run, error)
                log.warning("off_failed", **_names(run), reason=trouble, tries_left=left)
            else:
                run.is_untouched = False
                self._meet(run, None)
                return None
            if left and await is_set_within(run.hurry, backoff.next()):
                break
        return _Trouble(trouble, run.is_untouched)

    async def _stay_off(self, run: _Run) -> None:
        delay = run.entry.command.delay_s or run.outlet.controller.off_for.total_seconds()
        began = run.off_since
        if began is None:
            began = time.monotonic() - self._off_for_so_far(run.entry, delay)
        while (rest := began + delay - time.monotonic()) > 0:
            spare = self._mandate.left() - self._patience.reserve
            if run.hurry.is_set() or spare <= 0:
                why = (
                    "the agent was asked to end"
                    if run.hurry.is_set()
                    else "the agent lost touch with the lab"
                )
                run.notes.append(
                    f"the port was off for {delay - rest:.1f} s and not for {delay:g} s, because {why}"
                )
                return
            await is_set_within(run.hurry, min(rest, spare))

    def _off_for_so_far(self, entry: Entry, delay: float) -> float:
        off = entry.moment(PowerStatus.OFF)
        if off is None or entry.moment(PowerStatus.ON) is not None:
            return delay
        return min(delay, max(0.0, (self._clock.now() - off.at).total_seconds()))

    async def _switch_on(self, run: _Run) -> _Trouble | None:
        deadline = time.monotonic() + self._patience.on
        backoff = self._backoff()
        driver = run.outlet.controller.driver
        for tries in itertools.count(1):
            try:
                await self._on_once(
                    run.outlet.port, run.driver, reads_back=driver is None or driver.reads_back
                )
            except _HOPELESS as error:
                self._meet(run, error)
                return _Trouble(str(error), run.is_untouched)
            except DriverError as error:
                run.is_untouched = run.is_untouched and isinstance(error, NotReached)
                self._meet(run, error)
                pause = backoff.next()
                log.warning("on_failed", **_names(run), reason=str(error), retry_in_s=round(pause, 2))
                is_time_up = run.is_untouched or time.monotonic() + pause >= deadline
                if tries >= self._patience.off_tries and is_time_up:
                    return _Trouble(str(error), run.is_untouched)
                await _paused(run.hurry, pause)
            else:
                self._meet(run, None)
                break
        return None

    def _meet(self, run: _Run, error: DriverError | None) -> None:
        if self._met is not None and (error is None or isinstance(error, _OF_THE_CONTROLLER)):
            self._met(run.entry, run.outlet, "" if error is None else str(error))

    async def _on_once(self, port: str, driver: PowerDriver, *, reads_back: bool) -> None:
        await self._call(lambda: driver.on(port))
        if not reads_back:
            return
        try:
            state = await self._call(lambda: driver.status(port))
        except DriverError:
            return  # it has confirmed; that it does not answer twice is the next probe's business
        if state is PortState.OFF:
            raise NotConfirmed(f"port {port} was switched on and is off")

    async def _call(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """One call of a driver, within its limit and within the mandate."""
        left = self._mandate.left()
        if left <= 0:
            raise Relinquished("another agent may drive the port by now")
        limit = min(self._patience.call, left)
        try:
            async with asyncio.timeout(limit):
                return await call()
        except DriverError:
            raise
        except TimeoutError as error:
            if self._mandate.left() <= 0:
                raise Relinquished("another agent may drive the port by now") from error
            raise Unreachable(f"no answer within {limit:.0f} s") from error
        except Exception as error:  # of somebody's driver: a bug there must not leave a port off
            log.exception("driver_failed")
            raise NotConfirmed(f"the driver failed: {type(error).__name__}: {error}") from error

    # --- what is told --------------------------------------------------------------------------------------------------

    async def _step(self, run: _Run, status: PowerStatus, text: str = "", *, settles: bool = False) -> None:
        moment = PowerMoment(status=status, at=self._clock.now(), text=told(text))
        await asyncio.to_thread(run.entry.record, moment, settles=settles)
        self._tell(step_of(run.entry, moment, self._agent), run.entry)

    async def _end(self, run: _Run, status: PowerStatus, text: str, *, settles: bool = True) -> None:
        await self._step(run, status, text, settles=settles)

    def _backoff(self) -> Backoff:
        return Backoff(self._patience.first_pause, self._patience.longest_pause)


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


def told(text: str) -> str:
    """A driver's words, perhaps a device's own, as messages, database and terminals take them."""
    return plain(text[:_TEXT_LIMIT])[:_TEXT_LIMIT]


def _names(run: _Run) -> dict[str, str]:
    return {
        "command": run.entry.command.id,
        "machine": run.outlet.machine_id,
        "controller": run.outlet.controller.name,
        "port": run.outlet.port,
    }


async def _paused(hurry: asyncio.Event, seconds: float) -> None:
    """Wait before the next try; a short while only for who is in a hurry."""
    if hurry.is_set():
        await asyncio.sleep(min(seconds, _HURRIED_PAUSE))
    else:
        await is_set_within(hurry, seconds)


async def _ended_within(task: asyncio.Task[Any], seconds: float) -> None:
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # whoever cancelled us asks no more
