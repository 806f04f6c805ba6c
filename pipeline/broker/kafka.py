"""Apache Kafka as the broker, for labs that have outgrown one machine. Versions 3.9 and 4 are tested.

Connections of a process: one producer, one for questions about the cluster, one for looking into logs, and one consumer
for each subscription. Topics are made by `labkeeper topics create`, never by a service: how many partitions and replicas
they have is the operator's to decide, and cannot be taken back.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.broker.catalogue import Catalogue
from pipeline.broker.kafka_client import ANSWER_S, Link
from pipeline.broker.kafka_clock import BrokerClock
from pipeline.broker.kafka_inspector import Inspector
from pipeline.broker.kafka_membership import Alone, GroupMembership
from pipeline.broker.kafka_publisher import Addressed, Publisher
from pipeline.broker.kafka_records import Record, kafka_partition_of, record_of
from pipeline.broker.kafka_subscription import FETCHING, KafkaSubscription, Options
from pipeline.broker.kafka_topics import TopicMaker
from pipeline.broker.protocol import From, Lag, Outgoing, Received, Subscription, TopicReport
from pipeline.clock import Clock, SystemClock
from pipeline.errors import BrokerUnavailable, Rejected
from pipeline.settings import KafkaSettings

_HEARTBEATS_PER_SESSION = 10
_FOREVER_MS = 2**31 - 1


class KafkaBroker:
    """See `protocol.Broker`. Connects when first used."""

    def __init__(
        self,
        settings: KafkaSettings,
        catalogue: Catalogue | None = None,
        *,
        clock: Clock | None = None,
        session: timedelta = timedelta(seconds=10),
        patience: timedelta = timedelta(seconds=15),
    ) -> None:
        """`session`: how soon others take over from a member that was killed; the cluster allows 6 s or more, as a rule.

        `patience`: how soon `publish` gives up on a cluster that is away.
        """
        self._catalogue = catalogue or Catalogue()
        self._session = session
        self._link = Link(settings)
        self._clock = BrokerClock(clock or SystemClock())
        self._inspector = Inspector(self._link)
        self._publisher = Publisher(self._link, self._clock, patience_s=patience.total_seconds())
        self._subscriptions: set[KafkaSubscription] = set()

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """See the protocol."""
        topics = {message.topic: self._catalogue.topic(message.topic) for message in messages}
        records = [record_of(message, compacted=topics[message.topic].compacted) for message in messages]
        with self._forgetting():
            counts = {topic: await self._partition_count(topic) for topic in topics}
            await self._publisher.publish(
                [
                    self._addressed(message.topic, counts[message.topic], record)
                    for message, record in zip(messages, records, strict=True)
                ]
            )

    def subscribe(
        self,
        topic: str,
        *,
        group: str | None,
        start: From | datetime = From.EARLIEST,
        max_records: int = 500,
        max_wait: timedelta = timedelta(milliseconds=5),
    ) -> AbstractAsyncContextManager[Subscription]:
        """See the protocol. Entering raises `BrokerUnavailable` if the cluster cannot be reached or the topic is missing."""
        options = Options(topic, max_records, max_wait)
        return self._alone(options, start) if group is None else self._member(options, group, start)

    async def seek(self, topic: str, *, group: str, to: From | datetime) -> None:
        """See the protocol."""
        partitions = await self._partitions(topic)
        name = self._group(topic, group)
        positions = await self._inspector.offsets(partitions, to)
        members = await self._inspector.members(name)
        if members or not await self._inspector.commit(name, positions):
            raise Rejected(
                f"group {group!r} has {members or 'some'} live members: stop them before you move it"
            )

    async def lag(self, topic: str, *, group: str) -> Sequence[Lag]:
        """See the protocol."""
        partitions = await self._partitions(topic)
        measured_at = self._clock.now()  # before the logs' ends: whatever is not counted was published later
        committed = await self._inspector.committed(self._group(topic, group), partitions)
        firsts = await self._inspector.offsets(partitions, From.EARLIEST)
        ends = await self._inspector.offsets(partitions, From.LATEST)
        positions = {
            each: committed[each] if firsts[each] <= committed.get(each, -1) <= ends[each] else firsts[each]
            for each in partitions
        }
        behind = {each: at for each, at in positions.items() if at < ends[each]}
        oldest = await self._inspector.look(topic, behind, limit=len(behind), one_each=True) if behind else []
        since = {message.partition: message.published_at for message in oldest}
        return [
            Lag(each.partition, ends[each] - positions[each], since.get(each.partition), measured_at)
            for each in partitions
        ]

    async def fetch(
        self, topic: str, *, after: Mapping[int, int] | None = None, limit: int = 100
    ) -> Sequence[Received]:
        """See the protocol."""
        partitions = await self._partitions(topic)
        firsts = await self._inspector.offsets(partitions, From.EARLIEST)
        positions = {
            each: max(firsts[each], (after or {}).get(each.partition, -1) + 1) for each in partitions
        }
        return await self._inspector.look(topic, positions, limit=limit)

    async def create_topics(self, *, partitions: Mapping[str, int] | None = None) -> Sequence[TopicReport]:
        """See the protocol."""
        return await TopicMaker(self._link, self._inspector, self._catalogue).create(partitions or {})

    async def check(self) -> None:
        """See the protocol."""
        await self._inspector.check()

    async def close(self) -> None:
        """See the protocol."""
        for subscription in tuple(self._subscriptions):
            await subscription.close()
        await self._publisher.close()
        await self._inspector.close()

    async def _partitions(self, topic: str) -> Sequence[TopicPartition]:
        return await self._inspector.partitions(self._catalogue.full_name(topic))

    async def _partition_count(self, topic: str) -> int:
        await self._partitions(topic)
        return await self._publisher.partition_count(self._catalogue.full_name(topic))

    def _addressed(self, topic: str, count: int, record: Record) -> Addressed:
        return TopicPartition(self._catalogue.full_name(topic), kafka_partition_of(record.key, count)), record

    def _group(self, topic: str, group: str) -> str:
        """The group's name on the cluster: a group of ours has a position in one topic of one lab."""
        return f"{self._catalogue.full_name(topic)}.{group}"

    @contextlib.contextmanager
    def _forgetting(self) -> Iterator[None]:
        """What fails may fail because a topic has gone: then the next try shall say so."""
        try:
            yield
        except BrokerUnavailable:
            self._inspector.forget()
            raise

    @contextlib.asynccontextmanager
    async def _alone(self, options: Options, start: From | datetime) -> AsyncIterator[Subscription]:
        positions = await self._inspector.offsets(await self._partitions(options.topic), start)
        consumer = AIOKafkaConsumer(group_id=None, **FETCHING, **self._link.options())
        membership = Alone(options.topic, consumer, self._inspector, self._link)
        async with self._running(KafkaSubscription(options, consumer, membership), consumer) as subscription:
            membership.begin(positions)
            subscription.start()
            yield subscription

    @contextlib.asynccontextmanager
    async def _member(
        self, options: Options, group: str, start: From | datetime
    ) -> AsyncIterator[Subscription]:
        name = self._group(options.topic, group)
        drain_s = self._session.total_seconds()
        await self._begin(options.topic, name, start)
        has_company = await self._inspector.members(name) > 0
        consumer = AIOKafkaConsumer(group_id=name, **FETCHING, **self._group_options(drain_s))
        membership = GroupMembership(
            options.topic, consumer, self._inspector, self._link, group=name, drain_s=drain_s
        )
        async with self._running(KafkaSubscription(options, consumer, membership), consumer) as subscription:
            consumer.subscribe([self._catalogue.full_name(options.topic)], listener=membership)
            subscription.start()
            if not has_company:  # others may first have to finish what they have in hand
                await membership.joined(ANSWER_S)
            yield subscription

    @contextlib.asynccontextmanager
    async def _running(
        self, subscription: KafkaSubscription, consumer: AIOKafkaConsumer
    ) -> AsyncIterator[KafkaSubscription]:
        self._subscriptions.add(subscription)
        try:
            async with self._link.asking("subscribing"):
                await consumer.start()
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            await subscription.close()

    async def _begin(self, topic: str, group: str, start: From | datetime) -> None:
        """Give the group a position in every partition, if it has none."""
        partitions = await self._partitions(topic)
        known = await self._inspector.committed(group, partitions)
        new = [partition for partition in partitions if partition not in known]
        if new:
            # A partition that was added since is read from its first message: the group has been listening all along.
            positions = await self._inspector.offsets(new, From.EARLIEST if known else start)
            await self._inspector.commit(
                group, positions
            )  # if it has members by now, one of them has done it

    def _group_options(self, drain_s: float) -> dict[str, object]:
        session_ms = int(self._session.total_seconds() * 1000)
        rebalance_s = drain_s + self._session.total_seconds()
        return {
            **self._link.options(
                request_timeout_s=rebalance_s + ANSWER_S
            ),  # joining takes as long as others drain
            "session_timeout_ms": session_ms,
            "heartbeat_interval_ms": session_ms // _HEARTBEATS_PER_SESSION,
            "rebalance_timeout_ms": int(rebalance_s * 1000),
            "max_poll_interval_ms": _FOREVER_MS,  # who waits for its database is alive
        }
