"""The statistics as a plain loop, on any broker.

Batches are read and counted; every few seconds the whole ledger is saved (a large one more seldom), and only then are the
batches acknowledged that it holds. So after a crash the broker gives again what the last ledger does not know, and a little of what it knows, which
versions tell apart. Windows are told when everything published before their end has been read, and saved as told afterwards:
after a crash some are told again, from the same records and so with the same content.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Final

from consumers.fleet_stats.beginning import FleetStore, first_ledger
from consumers.fleet_stats.publication import count, tell
from consumers.fleet_stats.settings import GROUP, LEASE, FleetStatsSettings
from pipeline import logs, metrics
from pipeline.broker.deadletter import DeadLetters
from pipeline.broker.protocol import Batch, Broker, Received, Subscription
from pipeline.broker.reading import until_stopped
from pipeline.broker.waiting import first_of, is_set_within
from pipeline.clock import Clock
from pipeline.errors import LeaseLost
from pipeline.mandate import Mandate, Overtaken
from pipeline.service import Abandoned, persist, together
from pipeline.statistics.ledger import Ledger
from pipeline.statistics.observation import milliseconds, observed
from schemas.fleet_stats import FleetStats
from schemas.topics import MACHINE_CHANGES

_IN_HAND: Final = 20_000
"""Changes that may be counted but not saved."""
_AT_ONCE: Final = 10
"""Windows in one publication; after an outage many are due."""
_BYTES_PER_S: Final = 16_000
"""How much is written on average. A database that keeps old versions of a row keeps all that was written lately."""
_LONGEST_PAUSE_S: Final = 60.0
"""Between two savings, however large the ledger is."""

log = logs.get_logger()


class PlainRunner:
    """Tells the windows, or stands by."""

    def __init__(self, store: FleetStore, broker: Broker, clock: Clock, settings: FleetStatsSettings) -> None:
        self._store = store
        self._broker = broker
        self._clock = clock
        self._settings = settings

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set."""
        while not stop.is_set():
            mandate = Mandate(self._store, LEASE, lease_s=self._settings.lease.total_seconds())
            if await mandate.wait(stop):
                try:
                    await self._tell(mandate, stop)
                except Overtaken:
                    log.warning("overtaken", note="another process tells the windows; standing by")
                except Abandoned as error:
                    log.warning(
                        "stopped_in_trouble", reason=str(error), note="what was in hand is read again"
                    )
                finally:
                    metrics.STATS_TOLD_UNTIL.set(0)
                    await mandate.release()

    async def _tell(self, mandate: Mandate, stop: asyncio.Event) -> None:
        saved = await persist(mandate.take_over, "store_unavailable", stop)
        rules = self._settings.rules
        if saved:
            ledger = Ledger.from_json(zlib.decompress(saved), rules)
        else:
            ledger = await first_ledger(self._store, mandate, rules, self._clock, stop)
        log.info("telling", machines=len(ledger.records), since_ms=ledger.floor)
        subscription = self._broker.subscribe(
            MACHINE_CHANGES,
            group=GROUP,
            max_records=self._settings.max_records,
            max_wait=self._settings.max_wait,
        )
        async with subscription as reader:
            await _Session(self._broker, reader, ledger, mandate, self._clock, self._settings, stop).run()


class _Session:
    """From taking over to stopping."""

    def __init__(
        self,
        broker: Broker,
        reader: Subscription,
        ledger: Ledger,
        mandate: Mandate,
        clock: Clock,
        settings: FleetStatsSettings,
        stop: asyncio.Event,
    ) -> None:
        self._broker = broker
        self._reader = reader
        self._ledger = ledger
        self._mandate = mandate
        self._clock = clock
        self._settings = settings
        self._stop = stop
        self._dead_letters = DeadLetters(broker, clock, settings.reject_limit)
        self._counted: list[Batch] = []
        """Batches that the ledger holds and the broker still has for us."""
        self._room = asyncio.Event()
        self._full = asyncio.Event()
        self._ended = asyncio.Event()
        self._saved_floor: int | None = None
        self._save_at = time.monotonic()
        self._hurried_for: int | None = None
        """The floor for whose window the ledger was saved before its time."""

    async def run(self) -> None:
        """Until asked to stop. Raises `Overtaken` and `Abandoned`."""
        await together(self._read(), self._look_again_and_again(), self._renew_again_and_again())

    async def _read(self) -> None:
        async for batch in until_stopped(self._reader, self._stop):
            await self._count(batch)
            self._counted.append(batch)
            most = min(_IN_HAND, 2 * self._settings.max_records)
            while sum(len(each.messages) for each in self._counted) >= most:
                self._room.clear()
                self._full.set()
                await self._room.wait()

    async def _count(self, batch: Batch) -> None:
        rejected: list[tuple[Received, str]] = []
        outcomes: list[str] = []
        for message in batch.messages:
            try:
                outcomes.append(self._apply(message))
            except ValueError as error:
                rejected.append((message, str(error)))
        if rejected:
            await persist(partial(self._dead_letters.put, rejected), "broker_unavailable", self._stop)
            log.warning("dead_letters", count=len(rejected), first_reason=rejected[0][1])
        self._dead_letters.count(read=len(batch.messages), rejected=len(rejected))
        count(outcomes)
        metrics.BATCH_RECORDS.labels(GROUP).observe(len(batch.messages))

    def _apply(self, message: Received) -> str:
        at = milliseconds(message.published_at)
        news = observed(message.key, message.value, dict(message.headers), at)
        if not self._ledger.apply(news):
            return "repeated"
        return "late" if at < self._ledger.floor else "counted"

    async def _renew_again_and_again(self) -> None:
        """Beside the rest: saving may take longer than others wait for a sign of life."""
        while not await is_set_within(self._ended, self._settings.lease.total_seconds() / 5):
            await persist(self._mandate.renew, "store_unavailable", self._stop)

    async def _look_again_and_again(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.is_set()
            is_due = self._settings.may_be_due(self._ledger.floor, self._clock.now())
            if self._has_news() and (stopping or self._is_time_to_save(is_due)):
                await self._save()
            if is_due and not stopping:
                await self._tell_windows()
            if not stopping:
                await self._pause(self._settings.look_every.total_seconds())
        self._ended.set()

    def _is_time_to_save(self, is_due: bool) -> bool:
        """Also before its time: when too much is in hand, and once for each window that can be told only then."""
        hurried_for, self._hurried_for = self._hurried_for, self._ledger.floor if is_due else None
        if self._full.is_set() or (is_due and hurried_for != self._ledger.floor):
            return True
        return time.monotonic() >= self._save_at

    async def _pause(self, seconds: float) -> None:
        """Wait so long, unless there is too much in hand or the end has come."""
        stopped = asyncio.ensure_future(self._stop.wait())
        full = asyncio.ensure_future(is_set_within(self._full, seconds))
        await first_of(stopped, full)

    def _has_news(self) -> bool:
        return bool(self._counted) or self._saved_floor != self._ledger.floor

    async def _save(self) -> None:
        """Save the ledger, then acknowledge what it holds."""
        batches = self._counted
        self._counted = []
        self._full.clear()
        content, floor = self._ledger.to_json(), self._ledger.floor
        packed = await asyncio.to_thread(zlib.compress, content, 1)
        await persist(partial(self._mandate.save, packed), "store_unavailable", self._stop)
        self._saved_floor = floor
        self._save_at = time.monotonic() + min(len(packed) / _BYTES_PER_S, _LONGEST_PAUSE_S)
        for batch in batches:
            await persist(partial(self._acknowledge, batch), "broker_unavailable", self._stop)
        self._room.set()
        metrics.STATS_MACHINES.set(len(self._ledger.records))

    async def _acknowledge(self, batch: Batch) -> None:
        try:
            await self._reader.acknowledge(batch)
        except LeaseLost as error:
            log.warning("lease_lost", reason=str(error), records=len(batch.messages))

    async def _tell_windows(self) -> None:
        caught_up_to = await persist(self._caught_up_to, "broker_unavailable", self._stop)
        await persist(self._mandate.confirm, "store_unavailable", self._stop)
        due = self._ledger.due(milliseconds(caught_up_to - self._settings.grace))
        for part in _parts(due):
            await tell(self._broker, [window for _, window in part], self._stop)
            self._ledger.told(part[-1][0])
        self._ledger.forget_gone()

    async def _caught_up_to(self) -> datetime:
        """Everything published before this moment is in the ledger."""
        lags = await self._broker.lag(MACHINE_CHANGES, group=GROUP)
        for lag in lags:
            metrics.CONSUMER_LAG.labels(GROUP, MACHINE_CHANGES, str(lag.partition)).set(lag.unread)
        return min(lag.oldest_unread_at or lag.measured_at for lag in lags)


def _parts(items: Iterator[tuple[int, list[FleetStats]]]) -> Iterator[list[tuple[int, list[FleetStats]]]]:
    while part := list(islice(items, _AT_ONCE)):
        yield part
