"""The embedded broker: topics in tables of a PostgreSQL database. For one machine, with nothing to set up.

Connections of a process: one that publishes, one that listens, one for groups and their heartbeats, one for looking
around, and one for each subscription, each with a thread of its own, so that a large read never delays a heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Final

from pipeline import logs
from pipeline.broker import embedded_groups, embedded_log
from pipeline.broker.catalogue import Catalogue, check_size
from pipeline.broker.embedded_groups import Member
from pipeline.broker.embedded_listener import Listener
from pipeline.broker.embedded_log import PartitionState, Wanted
from pipeline.broker.embedded_membership import Alone, GroupMembership, Membership, Reading
from pipeline.broker.embedded_publisher import Addressed, Publisher
from pipeline.broker.embedded_session import Cursor, Session
from pipeline.broker.embedded_subscription import Arrivals, EmbeddedSubscription, Options, read_blocks
from pipeline.broker.partitions import partition_of
from pipeline.broker.protocol import From, Lag, Outgoing, Received, Subscription, TopicReport
from pipeline.broker.record_batch import record_of
from pipeline.clock import Clock, SystemClock
from pipeline.errors import BrokerUnavailable, Misconfigured
from schemas.ids import new_ulid

_FETCH_BYTES: Final = 32 * 1024 * 1024
_OLDEST_SERVER: Final = 16


class EmbeddedBroker:
    """See `protocol.Broker`. Connects when first used."""

    def __init__(
        self,
        dsn: str,
        catalogue: Catalogue | None = None,
        *,
        clock: Clock | None = None,
        lease: timedelta = timedelta(seconds=10),
        trim_every: timedelta = timedelta(minutes=5),
    ) -> None:
        """`lease`: how soon others take over from a member that was killed. `dsn` may hold a password: never log it."""
        self._dsn = dsn
        self._catalogue = catalogue or Catalogue()
        self._clock = clock or SystemClock()
        self._lease = lease
        self._trim_every = trim_every
        self._coordination = Session(dsn, "groups")
        self._inspection = Session(dsn, "inspect")
        self._publisher = Publisher(Session(dsn, "publish"))
        self._listener = Listener(dsn)
        self._partitions: dict[str, list[PartitionState]] = {}
        self._opening = asyncio.Lock()
        self._trimming: asyncio.Task[None] | None = None
        self._subscriptions: set[EmbeddedSubscription] = set()

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """See the protocol."""
        await self._open()
        await self._publisher.publish([self._addressed(message) for message in messages])

    def subscribe(
        self,
        topic: str,
        *,
        group: str | None,
        start: From | datetime = From.EARLIEST,
        max_records: int = 500,
        max_wait: timedelta = timedelta(milliseconds=5),
    ) -> AbstractAsyncContextManager[Subscription]:
        """See the protocol. Entering raises `BrokerUnavailable` if the database cannot be reached."""
        return self._subscription(Options(topic, max_records, max_wait), group, start)

    async def seek(self, topic: str, *, group: str, to: From | datetime) -> None:
        """See the protocol."""
        name = await self._open_topic(topic)
        await self._inspection.transaction(lambda cursor: embedded_groups.seek(cursor, group, name, to))

    async def lag(self, topic: str, *, group: str) -> Sequence[Lag]:
        """See the protocol."""
        name = await self._open_topic(topic)
        return await self._inspection.run(lambda cursor: embedded_groups.lag(cursor, group, name))

    async def fetch(
        self, topic: str, *, after: Mapping[int, int] | None = None, limit: int = 100
    ) -> Sequence[Received]:
        """See the protocol."""
        await self._open_topic(topic)
        positions = {
            state.id: (after or {}).get(state.partition, -1) + 1 for state in self._partitions[topic]
        }
        places = {state.id: state.partition for state in self._partitions[topic]}
        wanted = Wanted(positions, records=limit, size=_FETCH_BYTES, segments=limit)
        found = await self._inspection.run(lambda cursor: read_blocks(cursor, wanted, topic, places))
        return [message for _, messages in found.blocks for message in messages][:limit]

    async def create_topics(self, *, partitions: Mapping[str, int] | None = None) -> Sequence[TopicReport]:
        """See the protocol. Whoever connects first creates them, so that there is nothing to set up."""
        await self._open()
        return self._catalogue.reports(
            {topic: len(states) for topic, states in self._partitions.items()}, partitions or {}
        )

    async def check(self) -> None:
        """See the protocol."""
        await self._open()
        await self._coordination.run(lambda cursor: cursor.execute("SELECT 1"))

    async def trim(self) -> int:
        """Delete what is older than its topic keeps it, and say how many blocks went. Happens by itself as well."""
        await self._open()
        trimmed = 0
        for topic in self._catalogue:
            before = self._clock.now() - topic.retention
            name = self._catalogue.full_name(topic.name)
            for number in range(len(self._partitions[topic.name])):
                while count := await self._inspection.transaction(
                    lambda cursor, n=number: embedded_log.trim(cursor, name, n, before=before)  # type: ignore[misc]  # noqa: B023
                ):
                    trimmed += count
        return trimmed

    async def close(self) -> None:
        """See the protocol."""
        if self._trimming is not None:
            self._trimming.cancel()
            await asyncio.wait([self._trimming])
        for subscription in tuple(self._subscriptions):
            await subscription.close()
        await self._publisher.close()
        await self._listener.close()
        await self._coordination.close()
        await self._inspection.close()

    def _addressed(self, message: Outgoing) -> Addressed:
        partitions = self._partitions.get(message.topic)
        if partitions is None:
            raise self._catalogue.unknown(message.topic)
        record = record_of(message)
        check_size(record.size)
        return partitions[partition_of(record.key, len(partitions))].id, record

    async def _open(self) -> None:
        if self._partitions:
            return
        async with self._opening:
            if self._partitions:
                return
            names = {topic.name: self._catalogue.full_name(topic.name) for topic in self._catalogue}
            sizes = {names[topic.name]: topic.partitions for topic in self._catalogue}
            self._partitions = await self._inspection.run(lambda cursor: _prepare(cursor, names, sizes))
            self._trimming = asyncio.create_task(self._trim_now_and_then())

    async def _open_topic(self, topic: str) -> str:
        name = self._catalogue.full_name(topic)
        await self._open()
        return name

    @contextlib.asynccontextmanager
    async def _subscription(
        self, options: Options, group: str | None, start: From | datetime
    ) -> AsyncIterator[Subscription]:
        name = await self._open_topic(options.topic)
        arrivals = Arrivals()
        membership = await self._membership(name, group, start, arrivals)
        subscription = EmbeddedSubscription(options, Session(self._dsn, "read"), membership, arrivals)
        self._subscriptions.add(subscription)
        self._listener.add(subscription)
        try:
            subscription.start()
            yield subscription
        finally:
            self._listener.remove(subscription)
            self._subscriptions.discard(subscription)
            await subscription.close()

    async def _membership(
        self, name: str, group: str | None, start: From | datetime, arrivals: Arrivals
    ) -> Membership:
        if group is None:
            return Alone(await self._inspection.run(lambda cursor: _all_from(cursor, name, start)))
        member = Member(group, name, new_ulid(), self._lease)
        await self._coordination.transaction(lambda cursor: embedded_groups.join(cursor, member, start))
        membership = GroupMembership(self._coordination, member, arrivals.something)
        await membership.beat()
        return membership

    async def _trim_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self._trim_every.total_seconds())
            try:
                await self.trim()
            except BrokerUnavailable as error:
                logs.get_logger().warning("broker_trim_failed", reason=str(error))


def _prepare(
    cursor: Cursor, names: Mapping[str, str], sizes: Mapping[str, int]
) -> dict[str, list[PartitionState]]:
    if cursor.connection.server_version < _OLDEST_SERVER * 10_000:
        raise Misconfigured(
            f"the embedded broker needs PostgreSQL {_OLDEST_SERVER} or newer (not CockroachDB), and this database says it"
            f" is {cursor.connection.server_version // 10_000}: use another one, or another broker"
        )
    embedded_log.create(cursor, sizes)
    return {topic: embedded_log.partitions_of(cursor, name) for topic, name in names.items()}


def _all_from(cursor: Cursor, topic: str, start: From | datetime) -> list[Reading]:
    return [
        Reading.begin(state.id, state.partition, epoch=0, at=embedded_log.offset_of(cursor, state, start))
        for state in embedded_log.partitions_of(cursor, topic)
    ]
