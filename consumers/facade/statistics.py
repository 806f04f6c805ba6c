"""The façade's memory of `fleet.stats`: the windows of each pool, of the last two days at most. Every replica reads the topic itself.

A window is kept as the JSON that clients get. Of two messages about the same window of a pool the later one counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

from pydantic import ValidationError

from consumers.facade.answers import json_of
from consumers.facade.settings import FacadeSettings
from pipeline import logs
from pipeline.broker.protocol import Broker, Received, Subscription
from pipeline.broker.reading import until_stopped
from pipeline.clock import Clock
from pipeline.service import Abandoned, persist
from pipeline.statistics.tally import combined
from schemas.fleet_stats import FleetStats
from schemas.topics import FLEET_STATS
from schemas.wire import explain

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE: Final = 200
"""Windows parsed before others get a turn."""

log = logs.get_logger()


class Statistics:
    """What is known of how the fleet did."""

    def __init__(self, settings: FacadeSettings) -> None:
        self._settings = settings
        self._pools: dict[str, dict[datetime, bytes]] = {}
        self._ends: dict[str, datetime] = {}
        self._entries = 0
        self._latest_start = _EPOCH
        self.position = 0
        """Counts what was read."""

    @property
    def pools(self) -> Sequence[str]:
        """Names, the whole fleet first."""
        return sorted(self._pools)

    def latest(self, pool: str) -> bytes | None:
        """The pool's latest window, unless it misses the one before the fleet's latest, too: then nothing was left of the pool.

        The messages of one window come one by one, in any order.
        """
        windows = self._pools.get(pool)
        if not windows or self._ends[pool] < self._latest_start:
            return None
        return windows[max(windows)]

    def end_of(self, pool: str) -> datetime | None:
        """Where the pool's latest window ends."""
        return self._ends.get(pool)

    def starts(self, pool: str, since: datetime, until: datetime) -> list[datetime]:
        """Where the pool's windows begin that begin then or later and before then, oldest first."""
        return sorted(start for start in self._pools.get(pool, ()) if since <= start < until)

    async def windows(self, pool: str, starts: Sequence[datetime]) -> list[FleetStats]:
        """The pool's windows that begin there, as far as they are still remembered."""
        windows = self._pools.get(pool, {})
        found = []
        for number, start in enumerate(starts):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            if start in windows:
                found.append(FleetStats.model_validate_json(windows[start]))
        return found

    def take(self, stats: FleetStats) -> None:
        """Remember a window, and forget the oldest ones."""
        windows = self._pools.setdefault(stats.pool, {})
        self._entries += stats.window_start not in windows
        windows[stats.window_start] = json_of(stats)
        self._ends[stats.pool] = max(stats.window_end, self._ends.get(stats.pool, stats.window_end))
        self._latest_start = max(stats.window_start, self._latest_start)
        self.position += 1
        self._forget(max(self._ends.values()) - self._settings.stats_kept)

    def _forget(self, before: datetime) -> None:
        for pool, windows in list(self._pools.items()):
            while windows and next(iter(windows)) < before:
                self._drop_oldest(pool)
        while self._entries > self._settings.stats_entries:
            self._drop_oldest(min(self._pools, key=lambda pool: next(iter(self._pools[pool]))))

    def _drop_oldest(self, pool: str) -> None:
        windows = self._pools[pool]
        del windows[next(iter(windows))]
        self._entries -= 1
        if not windows:
            del self._pools[pool], self._ends[pool]

    async def run(self, broker: Broker, clock: Clock, stop: asyncio.Event) -> None:
        """Read until `stop` is set. Waits for a broker that is away."""
        async with AsyncExitStack() as stack:

            async def subscribe() -> Subscription:
                start = clock.now() - self._settings.stats_kept
                return await stack.enter_async_context(
                    broker.subscribe(
                        FLEET_STATS, group=None, start=start, max_wait=timedelta(milliseconds=100)
                    )
                )

            try:
                reader = await persist(subscribe, "broker_unavailable", stop)
            except Abandoned:
                return
            async for batch in until_stopped(reader, stop):
                for message in batch.messages:
                    self._read(message)

    def _read(self, message: Received) -> None:
        try:
            self.take(FleetStats.model_validate_json(message.value))
        except ValidationError as error:
            log.warning("statistics_not_read", pool=message.key[:100], reason=explain(error))


def stepped(windows: Sequence[FleetStats], step_s: int) -> list[FleetStats]:
    """The windows put together by steps, which begin at multiples of their length since 1970."""
    groups = groupby(windows, key=lambda each: (each.window_start - _EPOCH) // timedelta(seconds=step_s))
    return [combined(list(group)) for _, group in groups]
