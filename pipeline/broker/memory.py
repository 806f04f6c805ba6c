"""A broker inside one process, for tests and for trying things out: the same promises, kept until the process ends.

Nothing here can crash on its own, so there are no leases; a member is gone when it leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from types import MappingProxyType
from typing import Self

from pipeline.broker.catalogue import Catalogue, check_size
from pipeline.broker.memory_groups import MemoryGroup
from pipeline.broker.partitions import partition_of
from pipeline.broker.protocol import Batch, From, Lag, Outgoing, Received, Subscription, TopicReport
from pipeline.broker.record_batch import record_of
from pipeline.broker.waiting import is_set_within
from pipeline.clock import Clock, SystemClock
from pipeline.errors import BrokerUnavailable, Rejected


@dataclass(slots=True)
class _Log:
    """One partition."""

    start: int = 0
    messages: list[Received] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.start + len(self.messages)

    def read(self, position: int, limit: int) -> list[Received]:
        at = max(0, position - self.start)
        return self.messages[at : at + limit]

    def offset_of(self, start: From | datetime) -> int:
        if isinstance(start, datetime):
            return self.start + bisect_left(self.messages, start, key=attrgetter("published_at"))
        return self.start if start is From.EARLIEST else self.end


class MemoryBroker:
    """See `protocol.Broker`."""

    def __init__(self, catalogue: Catalogue | None = None, *, clock: Clock | None = None) -> None:
        self._catalogue = catalogue or Catalogue()
        self._clock = clock or SystemClock()
        self._logs = {topic.name: [_Log() for _ in range(topic.partitions)] for topic in self._catalogue}
        self._groups: dict[tuple[str, str], MemoryGroup] = {}
        self._subscriptions: set[MemorySubscription] = set()
        self._is_closed = False

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """See the protocol."""
        self._check_open()
        for message in messages:
            self._catalogue.topic(message.topic)
            check_size(record_of(message).size)
        for message in messages:
            self._append(message)
        topics = {message.topic for message in messages}
        for subscription in self._subscriptions:
            if subscription.topic in topics:
                subscription.wake()

    def subscribe(
        self,
        topic: str,
        *,
        group: str | None,
        start: From | datetime = From.EARLIEST,
        max_records: int = 500,
        max_wait: timedelta = timedelta(milliseconds=5),
    ) -> AbstractAsyncContextManager[Subscription]:
        """See the protocol."""
        return self._subscription(topic, group, start, max_records, max_wait)

    async def seek(self, topic: str, *, group: str, to: From | datetime) -> None:
        """See the protocol."""
        known = self._group(topic, group)
        if known.members:
            raise Rejected(
                f"group {group!r} has {len(known.members)} live members: stop them before you move it"
            )
        known.positions.update(self._offsets(topic, to))

    async def lag(self, topic: str, *, group: str) -> Sequence[Lag]:
        """See the protocol."""
        self._check_open()
        self._catalogue.topic(topic)
        now = self._clock.now()
        positions = self._group(topic, group).positions
        return [
            _lag_of(log, number, positions.get(number, log.start), now)
            for number, log in enumerate(self._logs[topic])
        ]

    async def fetch(
        self, topic: str, *, after: Mapping[int, int] | None = None, limit: int = 100
    ) -> Sequence[Received]:
        """See the protocol."""
        self._catalogue.topic(topic)
        positions = {number: (after or {}).get(number, -1) + 1 for number in range(len(self._logs[topic]))}
        return self.read(topic, positions, limit)

    async def create_topics(self, *, partitions: Mapping[str, int] | None = None) -> Sequence[TopicReport]:
        """See the protocol. They are there from the beginning."""
        self._check_open()
        return self._catalogue.reports(
            {name: len(logs) for name, logs in self._logs.items()}, partitions or {}
        )

    async def check(self) -> None:
        """See the protocol."""
        self._check_open()

    async def close(self) -> None:
        """See the protocol."""
        self._is_closed = True
        for subscription in tuple(self._subscriptions):
            subscription.close()

    async def trim(self) -> int:
        """Forget what is older than its topic keeps it, and say how many messages went."""
        trimmed = 0
        for topic in self._catalogue:
            before = self._clock.now() - topic.retention
            for log in self._logs[topic.name]:
                old = log.offset_of(before) - log.start
                del log.messages[:old]
                log.start += old
                trimmed += old
        return trimmed

    def read(self, topic: str, positions: Mapping[int, int], limit: int) -> list[Received]:
        """Up to `limit` messages from the given offsets on, oldest first."""
        found = [
            message
            for number, position in positions.items()
            for message in self._logs[topic][number].read(position, limit)
        ]
        return sorted(found, key=attrgetter("published_at", "partition", "offset"))[:limit]

    def unread(self, topic: str, positions: Mapping[int, int]) -> int:
        """How many messages there are from the given offsets on."""
        return sum(
            self._logs[topic][number].end - max(position, self._logs[topic][number].start)
            for number, position in positions.items()
        )

    def _append(self, message: Outgoing) -> None:
        logs = self._logs[message.topic]
        number = partition_of(message.key.encode(), len(logs))
        log = logs[number]
        now = self._clock.now()
        published_at = max(now, log.messages[-1].published_at) if log.messages else now
        headers = MappingProxyType(dict(message.headers))
        log.messages.append(
            Received(message.topic, number, log.end, message.key, message.value, headers, published_at)
        )

    @contextlib.asynccontextmanager
    async def _subscription(
        self, topic: str, group: str | None, start: From | datetime, max_records: int, max_wait: timedelta
    ) -> AsyncIterator[Subscription]:
        self._check_open()
        self._catalogue.topic(topic)
        shared = MemoryGroup(self._offsets(topic, start)) if group is None else self._group(topic, group)
        if group is not None and not shared.positions:
            shared.positions.update(self._offsets(topic, start))
        subscription = MemorySubscription(self, topic, shared, max_records, max_wait.total_seconds())
        self._subscriptions.add(subscription)
        shared.join(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            subscription.close()

    def _group(self, topic: str, group: str) -> MemoryGroup:
        self._catalogue.topic(topic)
        return self._groups.setdefault((topic, group), MemoryGroup({}))

    def _offsets(self, topic: str, start: From | datetime) -> dict[int, int]:
        return {number: log.offset_of(start) for number, log in enumerate(self._logs[topic])}

    def _check_open(self) -> None:
        if self._is_closed:
            raise BrokerUnavailable("memory broker: closed")


def _lag_of(log: _Log, number: int, position: int, now: datetime) -> Lag:
    unread = log.read(position, len(log.messages))
    return Lag(number, len(unread), unread[0].published_at if unread else None, now)


class MemorySubscription:
    """See `protocol.Subscription`."""

    def __init__(
        self, broker: MemoryBroker, topic: str, group: MemoryGroup, max_records: int, max_wait_s: float
    ) -> None:
        self.topic = topic
        self._broker = broker
        self._group = group
        self._max_records = max_records
        self._max_wait_s = max_wait_s
        self._woken = asyncio.Event()
        self._is_closed = False

    def wake(self) -> None:
        """There may be something to read, or the end has come."""
        self._woken.set()

    def close(self) -> None:
        """Leave the group and end the iterator."""
        self._is_closed = True
        self._group.leave(self)
        self.wake()

    def __aiter__(self) -> Self:
        """See the protocol."""
        return self

    async def __anext__(self) -> Batch:
        """The next batch."""
        while not self._is_closed:
            positions = self._group.open_positions(self)
            if self._broker.unread(self.topic, positions):
                messages = self._broker.read(self.topic, positions, self._max_records)
                self._group.hand_out({message.partition: message.offset + 1 for message in messages})
                return Batch(messages)
            await self._arrival()
        raise StopAsyncIteration

    async def acknowledge(self, batch: Batch) -> None:
        """See the protocol."""
        self._group.acknowledge(self, {message.partition: message.offset + 1 for message in batch.messages})

    async def _arrival(self) -> None:
        """Wait for a first message, and then a little for more."""
        self._woken.clear()
        await self._woken.wait()
        deadline = time.monotonic() + self._max_wait_s
        while not self._is_closed and (left := deadline - time.monotonic()) > 0:
            if self._broker.unread(self.topic, self._group.open_positions(self)) >= self._max_records:
                return
            self._woken.clear()
            await is_set_within(self._woken, left)
