"""The description writer: events in, rows kept, changes out.

A batch passes three stages: it is read and decoded; it is applied in one transaction; its changes are published and it is
acknowledged. Each stage is one task, so the order of batches holds, and while one batch waits for the database the next
is decoded. A crash anywhere makes the batch be read again: sequences keep it from being applied twice, and changes carry
whole states with versions. Nothing is acknowledged before its effects are safe.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol

from consumers.description_writer.decode import EventChange, decode_all
from consumers.description_writer.precedence import let_tasks_go_first
from consumers.description_writer.settings import GROUP, WriterSettings
from consumers.description_writer.settlement import acknowledge, apply_or_split, log_rejected
from pipeline import logs, metrics
from pipeline.broker.deadletter import DeadLetters
from pipeline.broker.protocol import Batch, Broker, Lag, Received, Subscription
from pipeline.broker.reading import until_stopped
from pipeline.clock import Clock
from pipeline.errors import Retryable
from pipeline.service import Abandoned, persist, together, wait_for
from pipeline.store.messages import change_message
from pipeline.store.power_protocol import PowerStore
from pipeline.store.protocol import LABKEEPER_USER, ProgressLog, Store, Updated
from schemas.topics import MACHINE_EVENTS

log = logs.get_logger()


class WriterStore(Store, ProgressLog, PowerStore, Protocol):
    """What the writer needs of the store."""


@dataclass(slots=True)
class _Work:
    """A batch on its way through the stages."""

    batch: Batch
    changes: list[EventChange]
    rejected: list[tuple[Received, str]]
    began: float
    """`time.monotonic()` when it was in hand."""
    updated: list[Updated] = field(default_factory=list)


class DescriptionWriter:
    """One member of the group of writers."""

    def __init__(self, store: WriterStore, broker: Broker, clock: Clock, settings: WriterSettings) -> None:
        self._store = store
        self._broker = broker
        self._settings = settings
        self._clock = clock
        self._dead_letters = DeadLetters(broker, clock, settings.reject_limit)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish the batches in hand. Waits for a broker, or topics, that are not there yet."""
        decoded: asyncio.Queue[_Work | None] = asyncio.Queue(1)
        applied: asyncio.Queue[_Work | None] = asyncio.Queue(1)
        async with AsyncExitStack() as stack:
            try:
                reader = await persist(partial(self._join, stack), "broker_unavailable", stop)
            except Abandoned:
                return  # with nothing in hand
            try:
                await together(
                    self._decode(reader, decoded, stop),
                    self._apply(decoded, applied, stop),
                    self._finish(reader, applied, stop),
                    self._tell_progress(stop),
                )
            except Abandoned as error:
                log.warning("batch_abandoned", reason=str(error), note="it will be read again")

    async def _join(self, stack: AsyncExitStack) -> Subscription:
        """Become a member of the group, until the stack is left."""
        subscription = self._broker.subscribe(
            MACHINE_EVENTS,
            group=GROUP,
            max_records=self._settings.max_records,
            max_wait=self._settings.max_wait,
        )
        return await stack.enter_async_context(subscription)

    async def _decode(
        self, reader: Subscription, out: asyncio.Queue[_Work | None], stop: asyncio.Event
    ) -> None:
        async for batch in until_stopped(reader, stop):
            began = time.monotonic()
            changes, rejected = decode_all(batch.messages, max_bytes=self._settings.max_event_bytes)
            await out.put(_Work(batch, changes, rejected, began))
        await out.put(None)

    async def _apply(
        self, work_in: asyncio.Queue[_Work | None], out: asyncio.Queue[_Work | None], stop: asyncio.Event
    ) -> None:
        while (work := await work_in.get()) is not None:
            work.updated = await apply_or_split(work.changes, self._update, work.rejected, stop)
            await out.put(work)
        await out.put(None)

    async def _update(self, changes: Sequence[EventChange]) -> Sequence[Updated]:
        by_machine: dict[str, list[EventChange]] = {}
        for change in changes:
            by_machine.setdefault(change.machine_id, []).append(change)
        return await self._store.update_many(by_machine, now=changes[-1].message.published_at)

    async def _finish(
        self, reader: Subscription, work_in: asyncio.Queue[_Work | None], stop: asyncio.Event
    ) -> None:
        while (work := await work_in.get()) is not None:
            messages = [
                change_message(update, LABKEEPER_USER)
                for update in work.updated
                if update.after.row_version > 0
            ]
            if messages:
                await persist(partial(self._broker.publish, messages), "broker_unavailable", stop)
            await persist(partial(self._let_tasks_go_first, work.updated), "store_unavailable", stop)
            if work.rejected:
                await persist(partial(self._dead_letters.put, work.rejected), "broker_unavailable", stop)
                log_rejected(work.rejected)
            await acknowledge(reader, work.batch, stop)
            _count(work, len(messages))
            self._dead_letters.count(read=len(work.batch.messages), rejected=len(work.rejected))
        stop.set()

    async def _let_tasks_go_first(self, updated: Sequence[Updated]) -> None:
        await let_tasks_go_first(self._store, updated, now=self._clock.now())

    async def _tell_progress(self, stop: asyncio.Event) -> None:
        """Record how far the group is, for the watchdog, and show it as metrics."""
        behind = _Behind(0.0, self._clock.now())
        while True:
            try:
                lags = await self._broker.lag(MACHINE_EVENTS, group=GROUP)
                behind = _Behind(_show(lags), self._clock.now())
                caught_up_to = {str(lag.partition): lag.oldest_unread_at or lag.measured_at for lag in lags}
                await self._store.record("writer", caught_up_to, now=self._clock.now())
            except Retryable as error:
                log.warning("progress_not_recorded", reason=str(error))
            metrics.CONSUMER_LAG_SECONDS.labels(GROUP, MACHINE_EVENTS).set(behind.seconds(self._clock.now()))
            if await wait_for(stop, self._settings.progress_every.total_seconds()):
                return


@dataclass(frozen=True, slots=True)
class _Behind:
    """How old the oldest unread event was when that could last be found out."""

    age_s: float
    at: datetime

    def seconds(self, now: datetime) -> float:
        """Its age by now: while the broker is away it may be unread still, so the lag grows and does not stand still."""
        return self.age_s + max(0.0, (now - self.at).total_seconds())


def _show(lags: Sequence[Lag]) -> float:
    """Show what is unread in each partition; the age of the oldest of it, in seconds."""
    oldest = 0.0
    for lag in lags:
        metrics.CONSUMER_LAG.labels(GROUP, MACHINE_EVENTS, str(lag.partition)).set(lag.unread)
        if lag.oldest_unread_at is not None:
            oldest = max(oldest, (lag.measured_at - lag.oldest_unread_at).total_seconds())
    return oldest


def _count(work: _Work, published: int) -> None:
    """Metrics, after everything is safe: an attempt that was repeated must not count twice."""
    metrics.EVENTS_PROCESSED.inc(len(work.batch.messages))
    outcomes = [change.outcome for change in work.changes if change.outcome is not None]
    replayed = sum(outcome.replayed for outcome in outcomes)
    metrics.EVENTS_REPLAYED.inc(replayed)
    metrics.EVENTS_UNKNOWN_TYPE.inc(sum(outcome.unknown_type for outcome in outcomes))
    metrics.CHANGES_SENT.labels("writer").inc(published)
    metrics.BATCH_RECORDS.labels(GROUP).observe(len(work.batch.messages))
    elapsed = time.monotonic() - work.began
    metrics.BATCH_SECONDS.labels(GROUP).observe(elapsed)
    log.info(
        "batch",
        records=len(work.batch.messages),
        machines=len(work.updated),
        rejected=len(work.rejected),
        replayed=replayed,
        duration_ms=round(elapsed * 1000, 1),
    )
