"""Drives one port: off and on, with patience, within the mandate; and the pause between them.

Knows what a driver's error means for the port: whether it may have been switched, and whether to try again.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

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
from consumers.powercycle_agent.inventory import Outlet
from consumers.powercycle_agent.journal import Entry
from pipeline import logs
from pipeline.broker.waiting import is_set_within
from pipeline.clock import Clock
from pipeline.retry import Backoff
from schemas.power import PowerAction, PowerStatus

Result = TypeVar("Result")

log = logs.get_logger()

_HOPELESS: Final = (TurnedAway, UnknownPort, NotInstalled)
"""Nothing was switched, and trying again will not help."""
_OF_THE_CONTROLLER: Final = (Unreachable, TurnedAway, NotInstalled)
"""The controller cannot be used, not only this port."""
_HURRIED_PAUSE: Final = 1.0


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


Met = Callable[[Entry, Outlet, str], None]
"""Takes how a try at a port went, where that says something of the controller: why it cannot be used, or empty if it answers."""


@dataclass(slots=True)
class Run:
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
        """What is to be done."""
        return self.entry.command.action


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a port is not in the state that was asked for."""

    text: str
    is_untouched: bool
    """Surely nothing was switched."""


class Switch:
    """Turns ports off and on. Raises `Relinquished` when the mandate has run out."""

    def __init__(self, clock: Clock, patience: Patience, mandate: Mandate, met: Met | None) -> None:
        self._clock = clock
        self._patience = patience
        self._mandate = mandate
        self._met = met

    async def off(self, run: Run) -> Trouble | None:
        """Turn it off; return why that could not be confirmed."""
        if run.hurry.is_set():
            raise Relinquished("asked to end before the port was touched")
        backoff = self._backoff()
        trouble = ""
        for left in reversed(range(self._patience.off_tries)):
            try:
                await self._call(lambda: run.driver.off(run.outlet.port))
            except _HOPELESS as error:
                self._meet(run, error)
                return Trouble(str(error), run.is_untouched)
            except DriverError as error:
                run.is_untouched = run.is_untouched and isinstance(error, NotReached)
                trouble = str(error)
                self._meet(run, error)
                log.warning("off_failed", **names_of(run), reason=trouble, tries_left=left)
            else:
                run.is_untouched = False
                self._meet(run, None)
                return None
            if left and await is_set_within(run.hurry, backoff.next()):
                break
        return Trouble(trouble, run.is_untouched)

    async def stay_off(self, run: Run) -> None:
        """Wait as long as the port shall be off, unless there is no time for that; then the run's notes say so."""
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

    async def on(self, run: Run) -> Trouble | None:
        """Turn it on; return why that could not be confirmed."""
        deadline = time.monotonic() + self._patience.on
        backoff = self._backoff()
        for tries in itertools.count(1):
            try:
                await self.on_once(run.outlet.port, run.driver, reads_back=run.outlet.controller.reads_back)
            except _HOPELESS as error:
                self._meet(run, error)
                return Trouble(str(error), run.is_untouched)
            except DriverError as error:
                run.is_untouched = run.is_untouched and isinstance(error, NotReached)
                self._meet(run, error)
                pause = backoff.next()
                log.warning("on_failed", **names_of(run), reason=str(error), retry_in_s=round(pause, 2))
                is_time_up = run.is_untouched or time.monotonic() + pause >= deadline
                if tries >= self._patience.off_tries and is_time_up:
                    return Trouble(str(error), run.is_untouched)
                await _paused(run.hurry, pause)
            else:
                self._meet(run, None)
                break
        return None

    def _meet(self, run: Run, error: DriverError | None) -> None:
        if self._met is not None and (error is None or isinstance(error, _OF_THE_CONTROLLER)):
            self._met(run.entry, run.outlet, "" if error is None else str(error))

    async def on_once(self, port: str, driver: PowerDriver, *, reads_back: bool) -> None:
        """One try. Raises a `DriverError`, too."""
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

    def _backoff(self) -> Backoff:
        return Backoff(self._patience.first_pause, self._patience.longest_pause)


def names_of(run: Run) -> dict[str, str]:
    """What a line of the log calls it by."""
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
