"""Asking a Kafka cluster: which topics there are, how far logs and groups have come, what lies at an offset.

Two connections that nobody waits on: one for questions about the cluster, one (a consumer without a group) for the logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition, errors
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.metadata import MetadataRequest

from pipeline.broker.kafka_client import ANSWER_S, Link
from pipeline.broker.kafka_records import EPOCH, received
from pipeline.broker.protocol import From, Received
from pipeline.errors import BrokerUnavailable

_RETRY_S: Final = 0.1
_TRIES: Final = 3
_UNREACHABLE: Final = (
    errors.NodeNotReadyError,
    errors.KafkaConnectionError,
    errors.RequestTimedOutError,
)
_POLL_MS: Final = 100
_LOOK_BYTES: Final = 1024 * 1024
_CLOSE_S: Final = 5.0


class Inspector:
    """See the module. Connects when first used; its methods raise `BrokerUnavailable` and `Misconfigured`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._client: AIOKafkaClient | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._opening = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._known: dict[str, int] = {}
        self._is_closed = False

    async def close(self) -> None:
        """Let go of the connections."""
        self._is_closed = True
        client, consumer = self._client, self._consumer
        self._client = self._consumer = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                if consumer is not None:
                    await consumer.stop()
                if client is not None:
                    await client.close()

    async def check(self) -> None:
        """Return if some node of the cluster answers."""
        async with self._link.asking("checking the connection", seconds=ANSWER_S / 2):
            await self.ask(MetadataRequest([], allow_auto_topic_creation=False))

    async def partitions(self, topic: str) -> Sequence[TopicPartition]:
        """All of the topic (its full name); raises `BrokerUnavailable` if it has not been created."""
        count = self._known.get(topic)
        if count is None:
            count = (await self.describe([topic])).get(topic)
            if count is None:
                raise missing(topic)
            self._known[topic] = count
        consumer = await self._logs()
        count = max(count, len(consumer.partitions_for_topic(topic) or ()))
        return [TopicPartition(topic, number) for number in range(count)]

    def forget(self) -> None:
        """There is trouble: look again which topics there are before the next use."""
        self._known.clear()

    async def describe(self, topics: Sequence[str]) -> dict[str, int]:
        """Those of the topics (full names) that exist, with the number of their partitions. Creates none."""
        described = await self.describe_fully(topics)
        return {name: len(partitions) for name, partitions in described.items()}

    async def describe_fully(self, topics: Sequence[str]) -> dict[str, Sequence[Sequence[int]]]:
        """Like `describe`, with the replicas of each partition."""
        async with self._link.asking("looking for topics"):
            response = await self.ask(MetadataRequest(list(topics), allow_auto_topic_creation=False))
        found: dict[str, Sequence[Sequence[int]]] = {}
        for topic in response.to_object()["topics"]:
            error = errors.for_code(topic["error_code"])
            if error is errors.NoError:
                found[topic["topic"]] = [each["replicas"] for each in topic["partitions"]]
            elif error is not errors.UnknownTopicOrPartitionError:
                raise await self._link.explain(f"looking for topic {topic['topic']}", error(topic["topic"]))
        return found

    async def offsets(
        self, partitions: Collection[TopicPartition], at: From | datetime
    ) -> dict[TopicPartition, int]:
        """The first offset kept, the next to be written, or the first published at or after a time."""
        async with self._link.asking("looking up offsets"):
            consumer = await self._logs()
            if at is From.EARLIEST:
                return dict(await consumer.beginning_offsets(partitions))
            ends = dict(await consumer.end_offsets(partitions))
            if isinstance(at, datetime):
                milliseconds = max(0, math.ceil((at - EPOCH) / timedelta(milliseconds=1)))
                found = await consumer.offsets_for_times(dict.fromkeys(partitions, milliseconds))
                ends |= {partition: place.offset for partition, place in found.items() if place is not None}
            return ends

    async def committed(self, group: str, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """How far the group has come, for those partitions where it has a position."""
        topic = partitions[0].topic
        request = OffsetFetchRequest(group, [(topic, [each.partition for each in partitions])])
        async with self._link.asking(f"asking for the positions of group {group}"):
            response = await self._ask_coordinator(group, request)
        found = {}
        for _, entries in response.topics:
            for number, offset, _, code in entries:
                if code:
                    raise await self._link.explain(f"asking for the positions of group {group}", _error(code))
                if offset >= 0:
                    found[TopicPartition(topic, number)] = offset
        return found

    async def members(self, group: str) -> int:
        """How many live members the group has."""
        async with self._link.asking(f"asking for the members of group {group}"):
            response = await self._ask_coordinator(group, DescribeGroupsRequest([group]))
        (described,) = response.to_object()["groups"]
        return len(described["members"])

    async def commit(self, group: str, positions: Mapping[TopicPartition, int]) -> bool:
        """Set the group's positions. False, and nothing done, while it has live members."""
        consumer = AIOKafkaConsumer(group_id=group, enable_auto_commit=False, **self._link.options())
        try:
            async with self._link.asking(f"moving group {group}"):
                await consumer.start()
                consumer.assign(list(positions))
                await consumer.commit(dict(positions))
        except BrokerUnavailable as error:
            if isinstance(error.__cause__, errors.CommitFailedError):
                return False
            raise
        finally:
            await consumer.stop()
        return True

    async def look(
        self, topic: str, positions: Mapping[TopicPartition, int], *, limit: int, one_each: bool = False
    ) -> list[Received]:
        """Up to `limit` messages from these offsets on, or (`one_each`) the first of each partition."""
        ends = await self.offsets(positions, From.LATEST)
        wanted = {partition: at for partition, at in positions.items() if at < ends[partition]}
        found: list[Received] = []
        async with self._looking, self._link.asking("reading"):
            consumer = await self._logs()
            consumer.assign(list(wanted))
            for partition, at in wanted.items():
                consumer.seek(partition, at)
            while wanted and len(found) < limit:
                most = 1 if one_each else limit - len(found)
                records = await consumer.getmany(*wanted, timeout_ms=_POLL_MS, max_records=most)
                for partition, batch in records.items():
                    found += received(topic, partition.partition, batch)
                for partition in tuple(wanted):
                    if (partition in records and one_each) or await consumer.position(partition) >= ends[
                        partition
                    ]:
                        del wanted[partition]
                        consumer.pause(partition)
            consumer.pause(*consumer.assignment())
        return found

    async def ask(self, request: Any) -> Any:
        """Send a request to any node that answers."""
        client = await self._questions()
        nodes = [broker.nodeId for broker in client.cluster.brokers()]
        random.shuffle(nodes)
        for node in nodes:
            try:
                return await client.send(node, request)
            except _UNREACHABLE as error:
                problem: errors.KafkaError = error
        raise problem

    async def _ask_coordinator(self, group: str, request: Any) -> Any:
        """Send a request to the node that looks after the group; a new cluster needs a moment to find one."""
        client = await self._questions()
        unreachable = 0
        while True:
            try:
                node = await client.coordinator_lookup(CoordinationType.GROUP, group)
                response = await client.send(node, request)
                _raise_retriable(response)
            except errors.KafkaError as error:
                unreachable += isinstance(error, _UNREACHABLE)
                if not error.retriable or unreachable > _TRIES:
                    raise
                await client.force_metadata_update()
                await asyncio.sleep(_RETRY_S)
            else:
                return response

    async def _questions(self) -> AIOKafkaClient:
        async with self._opening:
            if self._client is None:
                self._check_open()
                client = AIOKafkaClient(**self._link.options())
                await _started(client.bootstrap, client.close)
                self._client = client
            return self._client

    async def _logs(self) -> AIOKafkaConsumer:
        async with self._opening:
            if self._consumer is None:
                self._check_open()
                consumer = AIOKafkaConsumer(
                    group_id=None,
                    enable_auto_commit=False,
                    auto_offset_reset="earliest",
                    fetch_max_wait_ms=_POLL_MS,
                    max_partition_fetch_bytes=_LOOK_BYTES,
                    **self._link.options(),
                )
                await _started(consumer.start, consumer.stop)
                self._consumer = consumer
            return self._consumer

    def _check_open(self) -> None:
        if self._is_closed:
            raise BrokerUnavailable("kafka: closed")


def missing(topic: str) -> BrokerUnavailable:
    """The error for a topic (its full name) that nobody has created."""
    return BrokerUnavailable(
        f"kafka: there is no topic {topic} yet: create it with `labkeeper topics create`"
    )


async def _started(start: Any, stop: Any) -> None:
    """Start a client; if that fails, stop it: it complains when it is dropped half open."""
    done = False
    try:
        await start()
        done = True
    finally:
        if not done:
            await stop()


def _error(code: int) -> errors.KafkaError:
    return errors.for_code(code)()


def _raise_retriable(response: Any) -> None:
    """Raise what a coordinator says while it is moving or loading."""
    groups = response.to_object().get("groups", ())
    codes = [getattr(response, "error_code", 0), *(group["error_code"] for group in groups)]
    for code in codes:
        if code and _error(code).retriable:
            raise _error(code)
