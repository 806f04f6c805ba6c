"""Publishes what waits in the outbox, in order for each key, at least once.

One relay at a time holds the lease; others stand by. A row is removed after the broker has its message safe, so a crash in
between publishes it again. With the broker or the database out of reach it waits and tries again for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from pipeline import logs, metrics
from pipeline.broker.deadletter import DeadLetters
from pipeline.broker.protocol import Broker, Received
from pipeline.clock import Clock, SystemClock
from pipeline.errors import BrokerUnavailable, Rejected, Retryable
from pipeline.retry import Backoff
from pipeline.store.protocol import Leases, Outbox, OutboxRow
from schemas.ids import new_ulid

LEASE: Final = "outbox-relay"

log = logs.get_logger()


class RelayStore(Outbox, Leases, Protocol):
    """What the relay needs of the store."""


@dataclass(frozen=True, slots=True)
class RelayPolicy:
    """How fast, and how careful."""

    poll: timedelta = timedelta(milliseconds=25)
    """Wait between two looks into an empty outbox: half of it is what an operator's action waits on average."""
    batch: int = 200
    """Messages published together."""
    lease: timedelta = timedelta(seconds=10)
    """How long a crashed relay keeps the others from taking over. Renewed after a third of it."""
    standby: timedelta = timedelta(seconds=1)
    """Wait between two tries to get the lease."""
    longest_pause: timedelta = timedelta(seconds=5)
    """Between two tries when broker or database are out of reach."""


_POLICY: Final = RelayPolicy()
_CLOCK: Final = SystemClock()


class Relay:
    """One relay; run as many as you like."""

    def __init__(
        self,
        store: RelayStore,
        broker: Broker,
        *,
        policy: RelayPolicy = _POLICY,
        clock: Clock = _CLOCK,
        owner: str | None = None,
    ) -> None:
        """`owner` names it in the lease; it must be unlike any other's."""
        self._store = store
        self._broker = broker
        self._policy = policy
        self._clock = clock
        self._owner = owner or new_ulid()
        self._dead_letters = DeadLetters(broker, clock)
        self._leased_until = 0.0
        self._renew_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set; what is being published then is finished first."""
        backoff = Backoff(cap_s=self._policy.longest_pause.total_seconds())
        try:
            while not stop.is_set():
                try:
                    pause = await self._round()
                    backoff.reset()
                except Retryable as error:
                    pause = backoff.next()
                    log.warning("outbox_waits", reason=str(error), retry_in_s=round(pause, 2))
                if pause > 0:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), pause)
        finally:
            await self._give_up_lease()

    async def _round(self) -> float:
        """Publish what waits, and return for how many seconds there is nothing to do."""
        if not await self._holds_lease():
            return self._policy.standby.total_seconds()
        rows = await self._store.take(limit=self._policy.batch)
        self._report_age(rows)
        if not rows:
            return self._policy.poll.total_seconds()
        await self._publish(rows)
        await self._store.remove(rows)
        metrics.OUTBOX_PUBLISHED.inc(len(rows))
        return 0 if len(rows) == self._policy.batch else self._policy.poll.total_seconds()

    async def _holds_lease(self) -> bool:
        now = (
            time.monotonic()
        )  # asked before: the store may count from a later moment, never from an earlier one
        if now < self._renew_at:
            return True
        seconds = self._policy.lease.total_seconds()
        if not await self._store.acquire(LEASE, self._owner, seconds=seconds):
            return False
        self._leased_until = now + seconds
        self._renew_at = now + seconds / 3
        return True

    def _report_age(self, rows: Sequence[OutboxRow]) -> None:
        now = self._clock.now()
        oldest = min((row.written_at for row in rows), default=now)
        metrics.OUTBOX_AGE_SECONDS.set(max(0.0, (now - oldest).total_seconds()))

    async def _publish(self, rows: Sequence[OutboxRow]) -> None:
        try:
            # Behind the end of the lease another relay publishes, and ours would come too late, out of order.
            async with asyncio.timeout(max(0.0, self._leased_until - time.monotonic())):
                await self._publish_or_park(rows)
        except TimeoutError as error:
            self._renew_at = 0.0
            raise BrokerUnavailable(
                "the broker did not take the messages in time; they stay in the outbox"
            ) from error

    async def _publish_or_park(self, rows: Sequence[OutboxRow]) -> None:
        try:
            await self._broker.publish([row.message for row in rows])
        except Rejected as error:
            if len(rows) == 1:
                await self._park(rows[0], str(error))
                return
            for row in rows:  # one by one, to find the culprit
                await self._publish_or_park([row])

    async def _park(self, row: OutboxRow, reason: str) -> None:
        """No broker will ever take it. The machine's row has the state; the next change of the machine tells it."""
        message = row.message
        received = Received(
            topic=message.topic,
            partition=0,
            offset=row.version,
            key=message.key,
            value=message.value,
            headers=message.headers,
            published_at=row.written_at,
        )
        is_parked = True
        try:
            await self._dead_letters.put([(received, reason)])
        except Rejected:  # too large even for that
            is_parked = False
        log.error(
            "outbox_rejected", key=row.message.key, version=row.version, reason=reason, parked=is_parked
        )

    async def _give_up_lease(self) -> None:
        if self._leased_until > time.monotonic():
            with contextlib.suppress(Retryable):  # then it runs out by itself
                await self._store.release(LEASE, self._owner)
