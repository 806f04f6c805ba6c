"""Interrogates every thirty seconds, or when triggered, one at a time, and puts the event into the spool."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from pipeline import logs
from pipeline.metrics import MONITOR_AVAILABLE, MONITOR_DROPPED
from producers.machine_monitor.belief import Belief
from producers.machine_monitor.interrogation import Interrogator
from producers.machine_monitor.quarantine import QuarantineFile
from producers.machine_monitor.spool import Spool
from schemas.envelope import EVENT_TYPE, metadata


class InterrogationLoop:
    """The spool's one writer."""

    def __init__(
        self,
        machine_id: str,
        interrogator: Interrogator,
        belief: Belief,
        spool: Spool,
        quarantine: QuarantineFile,
        *,
        period: timedelta,
        on_event: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_event` is called when an event is in the spool."""
        self._machine_id = machine_id
        self._interrogator = interrogator
        self._belief = belief
        self._spool = spool
        self._quarantine = quarantine
        self._period_s = period.total_seconds()
        self._on_event = on_event
        self._sequence = itertools.count()
        self._trigger = asyncio.Event()

    def trigger(self) -> None:
        """Interrogate now, or once more if that is under way already."""
        self._trigger.set()

    async def run(self) -> None:
        """Interrogate for ever, from when it is known what is attached."""
        await self._belief.known()
        while True:
            self._trigger.clear()
            await self.step()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._period_s):
                    await self._trigger.wait()

    async def step(self) -> None:
        """Interrogate once."""
        description = await self._belief.known()
        MONITOR_AVAILABLE.labels(self._machine_id).set(self._belief.is_available)
        event = await self._interrogator.interrogate(description)
        stamp = await asyncio.to_thread(self._unreported_quarantine)
        event = event.model_copy(update={"sequence": next(self._sequence), "forced_quarantine": bool(stamp)})
        dropped = self._spool.dropped
        await asyncio.to_thread(
            self._spool.put,
            event.model_dump_json().encode(),
            metadata(EVENT_TYPE, f"/machines/{self._machine_id}"),
            stamp=stamp,
        )
        MONITOR_DROPPED.labels(self._machine_id).inc(self._spool.dropped - dropped)
        logs.get_logger().info(
            "interrogated",
            device=event.device_kind or "none",
            sequence=event.sequence,
            quarantine=bool(stamp),
        )
        self._on_event()

    def _unreported_quarantine(self) -> str:
        waiting = (
            self._spool.stamps()
        )  # first: once a report has been accepted, the file goes before the event
        stamp = self._quarantine.stamp()
        return "" if stamp in waiting else stamp
