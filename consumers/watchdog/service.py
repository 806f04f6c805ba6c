"""The watchdog: marks silent machines down, heals them if it may, and forgets old history. One works at a time, the others stand by."""

from __future__ import annotations

import asyncio
import os
import socket
from datetime import datetime, timedelta
from typing import Protocol

from consumers.watchdog.healer import Healer
from consumers.watchdog.judgement import is_silent
from consumers.watchdog.policy_source import PolicySource
from consumers.watchdog.settings import LEASE, WatchdogSettings
from pipeline import logs, metrics
from pipeline.clock import Clock, is_due
from pipeline.errors import MachineNotFound, Retryable
from pipeline.processor.operators import mark_down
from pipeline.service import wait_for
from pipeline.store.healing import HealingStore
from pipeline.store.hearing import Deaf, Hearing, hearing
from pipeline.store.protocol import Leases, ProgressLog
from schemas.description import Description

log = logs.get_logger()

_LEASE_ROUNDS = 3
"""The lease outlives so many missed rounds."""
_FORGET_EVERY = timedelta(hours=1)
_GRACE = timedelta(minutes=1)
"""Clocks may differ by so much: an agent that began a command in time is not called late."""
_STALLED = timedelta(minutes=30)
"""Longer than any command takes, with its delay and its tries."""


class WatchdogStore(HealingStore, ProgressLog, Leases, Protocol):
    """What the watchdog needs of the store."""


class Watchdog:
    """Looks for silence every few seconds."""

    def __init__(
        self,
        store: WatchdogStore,
        clock: Clock,
        settings: WatchdogSettings,
        source: PolicySource = PolicySource(None),  # noqa: B008  # says that self-healing is off, and never changes
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._owner = f"{socket.gethostname()}:{os.getpid()}"
        self._healer = Healer(store, source, self._owner)
        self._forgot_at: datetime | None = None
        self._healed_at: datetime | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set."""
        pause = self._settings.check_every.total_seconds()
        while not stop.is_set():
            try:
                if await self._store.acquire(LEASE, self._owner, seconds=max(10.0, _LEASE_ROUNDS * pause)):
                    await self.look()
                    await self.heal()
            except Retryable as error:
                log.warning("store_unavailable", reason=str(error))
            await wait_for(stop, pause)
        try:
            await self._store.release(LEASE, self._owner)
        except Retryable as error:
            log.warning("lease_not_released", reason=str(error))

    async def look(self) -> list[str]:
        """One round: mark what is silent; return the ids of the machines marked."""
        now = self._clock.now()
        await self._forget(now)
        await self._end_power(now)
        heard = hearing(await self._store.progress(), now=now)
        if isinstance(heard, Deaf):
            metrics.WATCHDOG_HELD.labels(heard.why).inc()
            log.debug("held", why=heard.why)
            return []
        suspects = await self._store.silent_machines(since=heard.until - self._settings.least_patience)
        silent = [machine for machine in suspects if is_silent(machine, heard, self._settings)]
        return [marked for machine in silent if (marked := await self._mark(machine, heard, now)) is not None]

    async def heal(self) -> None:
        """One round of self-healing, unless the last one was a moment ago or we cannot tell who is silent."""
        now = self._clock.now()
        if not is_due(self._healed_at, self._settings.heal_every, now=now):
            return
        if isinstance(hearing(await self._store.progress(), now=now), Hearing):
            await self._healer.round(now)
            self._healed_at = now

    async def _mark(self, machine: Description, heard: Hearing, now: datetime) -> str | None:
        """Mark one machine, unless it has spoken since we looked."""
        machine_id = machine.dimension("id")[-1]

        def change(current: Description) -> Description:
            if current.is_down or not is_silent(current, heard, self._settings):
                return current
            return mark_down(current, since=current.last_updated)

        try:
            updated = await self._store.update(machine_id, change, now=now)
        except MachineNotFound:
            return None  # deleted meanwhile
        if not updated.kinds:
            return None
        metrics.MARKED_DOWN.inc()
        log.info("machine_down", machine=machine_id, silent_since=machine.last_updated.isoformat())
        return machine_id

    async def _end_power(self, now: datetime) -> None:
        """End power commands that no agent begins, or of which nothing is heard any more."""
        await self._store.expire_power(now=now, grace=_GRACE, stalled=_STALLED)

    async def _forget(self, now: datetime) -> None:
        if not is_due(self._forgot_at, _FORGET_EVERY, now=now):
            return
        before = now - self._settings.keep_history
        gone = await self._store.forget_history(before=before)
        commands = await self._store.forget_power(before=before)
        self._forgot_at = now
        if gone or commands:
            log.info("history_forgotten", entries=gone, commands=commands)
