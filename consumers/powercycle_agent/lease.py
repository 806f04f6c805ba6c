"""Whether we are the process that drives this agent's ports: a lease, renewed every third of it.

Judged by our own clock from before we asked, never by the answer's time of arrival, and by a clock that goes on while the
computer sleeps. So we stop before anybody else may begin, also when we cannot ask any more.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

from consumers.powercycle_agent.control import ControlPlane
from pipeline import logs, metrics
from pipeline.broker.waiting import is_set_within
from pipeline.errors import Retryable
from pipeline.service import wait_for

log = logs.get_logger()

_RENEWALS: Final = 3
_LOOKS: Final = 10
"""While we stand by, or get no answer: so many questions in the time of a lease."""


def boot_seconds() -> float:
    """Seconds since some moment, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """`executor.Mandate` by the lab's leave."""

    def __init__(
        self,
        control: ControlPlane,
        name: str,
        owner: str,
        seconds: float,
        clock: Callable[[], float] = boot_seconds,
    ) -> None:
        """`owner` must be unlike any other process's, and the same after a restart of ours."""
        self._control = control
        self._name = name
        self._owner = owner
        self._seconds = seconds
        self._clock = clock
        self._until = -math.inf
        self._asked_at = clock()
        self._unanswered_s = 0.0
        self._gained = asyncio.Event()
        self._denied = asyncio.Event()

    def left(self) -> float:
        """Seconds for which we surely hold it."""
        return self._until - self._clock()

    def unanswered_for(self) -> float:
        """Seconds in which we asked the lab whether we hold it, and it did not say. While we slept we did not ask."""
        return self._unanswered_s

    async def is_gained_within(self, seconds: float) -> bool:
        """Wait until we hold it, at most so long."""
        if self.left() > 0:
            return True
        self._gained.clear()  # it has run out since
        return await is_set_within(self._gained, seconds)

    async def ended(self) -> None:
        """Return once we do not hold it any more."""
        while (left := self.left()) > 0:
            await is_set_within(self._denied, left)

    async def keep(self, over: asyncio.Event) -> None:
        """Ask for it again and again until `over` is set; then give it up."""
        while not over.is_set():
            is_fine = await self._ask()
            metrics.POWER_LEASE_HELD.set(self.left() > 0)
            await wait_for(over, self._seconds / (_RENEWALS if is_fine else _LOOKS))
        await self._give_up()

    async def _ask(self) -> bool:
        asked_at = self._clock()
        since, self._asked_at = asked_at - self._asked_at, asked_at
        try:
            async with asyncio.timeout(self._seconds / _RENEWALS):
                held = await self._control.acquire(self._name, self._owner, seconds=self._seconds)
        except (Retryable, TimeoutError) as error:
            self._note_silence(since, str(error) or "no answer")
            return False
        if self._clock() - asked_at >= self._seconds:
            self._note_silence(since, "the answer came too late")
            return False
        self._unanswered_s = 0.0
        was_held = self.left() > 0
        self._until = asked_at + self._seconds if held else -math.inf
        if held != was_held:
            log.info("lease_gained" if held else "lease_lost", agent=self._name)
        elif not held and not self._denied.is_set():
            log.info("standing_by", agent=self._name, note="another process of this name works")
        if held:
            self._denied.clear()
            self._gained.set()
        else:
            self._gained.clear()
            self._denied.set()
        return held

    def _note_silence(self, since_s: float, reason: str) -> None:
        """The lab has not answered, so long after we asked it before."""
        has_slept = since_s > self._seconds / 2  # else we ask more often
        self._unanswered_s = 0.0 if has_slept else self._unanswered_s + since_s
        left_s = round(max(0, self.left()), 1)
        log.warning("lease_not_answered", agent=self._name, reason=reason, left_s=left_s)

    async def _give_up(self) -> None:
        metrics.POWER_LEASE_HELD.set(0)
        if self.left() <= 0:
            return
        self._until = -math.inf
        try:
            async with asyncio.timeout(self._seconds / _RENEWALS):
                await self._control.release(self._name, self._owner)
        except (Retryable, TimeoutError) as error:
            log.warning("lease_not_released", reason=str(error) or "no answer")
