"""Keeps the belief fresh: asks every minute, and at once when the façade says that something changed.

Nothing is interrogated before the belief is known, for an event without the right device part says "the device is gone".
So a monitor that has never heard of its machine waits until the façade answers; it has nobody to tell anything meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from pydantic import ValidationError

from pipeline import logs
from pipeline.clock import Clock
from pipeline.errors import MachineNotFound, Retryable
from pipeline.metrics import MONITOR_DESCRIPTION_ARRIVALS
from pipeline.retry import Backoff
from producers.machine_monitor.belief import Belief
from producers.machine_monitor.facade import Facade
from schemas.description import Description


class DescriptionWatch:
    """Watches one machine. Failures are logged and leave the belief as it is."""

    def __init__(
        self,
        facade: Facade,
        belief: Belief,
        machine_id: str,
        *,
        clock: Clock,
        period: timedelta = timedelta(seconds=60),
        backoff: Callable[[], Backoff] = lambda: Backoff(first_s=1, cap_s=30),
    ) -> None:
        self._facade = facade
        self._belief = belief
        self._machine_id = machine_id
        self._period_s = period.total_seconds()
        self._clock = clock
        self._backoff = backoff
        self._hint = asyncio.Event()
        self._last_message = ""

    async def learn(self) -> None:
        """Ask until something is known. An unknown machine is a new one; a machine known from before is not waited for."""
        backoff = self._backoff()
        while not await self.refresh():
            if self._belief.current is not None or self._belief.restore():
                return
            await asyncio.sleep(backoff.next())

    async def refresh(self) -> bool:
        """Ask once. False when there was no answer to believe."""
        before = self._belief.current
        try:
            fetched = await self._facade.description(self._machine_id)
        except MachineNotFound:
            if before is None and not self._belief.restore():
                self._belief.replace(Description.new(self._machine_id, now=self._clock.now()))
            return True
        except Retryable as error:
            logs.get_logger().warning("description is not known", reason=str(error))
            return False
        now = self._belief.current
        if now is not None and now is not before and now.row_version > fetched.row_version:
            return True  # a message overtook the answer
        self._accept(fetched)
        return True

    async def poll(self) -> None:
        """Ask for ever: every period, and when hinted."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._period_s):
                    await self._hint.wait()
            self._hint.clear()
            await self.refresh()

    async def listen(self) -> None:
        """Follow the stream of changes for ever."""
        backoff = self._backoff()
        while True:
            try:
                async with self._facade.hints(self._machine_id, after=self._last_message) as messages:
                    backoff.reset()
                    self._hint.set()  # what changed while nobody listened
                    async for message in messages:
                        self._last_message = message.id
                        self.hear(message.data)
            except Retryable as error:
                logs.get_logger().info("stream of changes ended", reason=str(error))
            await asyncio.sleep(backoff.next())

    def hear(self, data: str) -> None:
        """Take a message: a Description that is newer than ours is believed, anything else is a hint to ask."""
        current = self._belief.current
        try:
            heard = Description.model_validate_json(data)
        except ValidationError:
            self._hint.set()
            return
        if current is None or heard.row_version < current.row_version:
            self._hint.set()  # the row may have been deleted and begun again
        elif heard.row_version > current.row_version:
            self._accept(heard)

    def _accept(self, description: Description) -> None:
        MONITOR_DESCRIPTION_ARRIVALS.labels(self._machine_id).inc()
        self._belief.replace(description)
