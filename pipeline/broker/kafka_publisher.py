"""Publishing to Kafka: one lane a partition, in which everything that waits at the same time goes out as one batch.

There is no artificial delay: while one batch is under way the next one fills. A cluster that is away holds up the callers,
who are told after a while; what they had handed over is kept in its lane and goes out first when the cluster is back, so
that the order of a key survives. Until then a lane takes nothing more: retries do not pile up in it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition, errors
from aiokafka.structs import RecordMetadata

from pipeline import logs
from pipeline.broker.kafka_client import Link
from pipeline.broker.kafka_clock import BrokerClock
from pipeline.broker.kafka_records import Record, time_of
from pipeline.broker.kafka_topics import LARGEST_BATCH
from pipeline.errors import BrokerUnavailable, LabkeeperError, Misconfigured, Rejected

_BATCH_BYTES: Final = 1_000_000
_PART_BYTES: Final = 16 * 1024 * 1024
_MOST_WAITING_BYTES: Final = 64 * 1024 * 1024
_CLOSE_S: Final = 5.0
_COMPRESSION: Final = "zstd"
"""Seven times as fast as aiokafka's lz4, which takes the thorough variant, and smaller."""
_TOO_LARGE: Final = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)

Addressed = tuple[TopicPartition, Record]


@dataclass(slots=True, eq=False)
class _Batch:
    """Records of one partition that go out together; more may join until it is sent."""

    builder: Any
    done: asyncio.Future[None]
    size: int = 0
    count: int = 0

    def take(self, record: Record, now_ms: int) -> bool:
        """Add a record; False when the batch is full."""
        taken = self.builder.append(
            timestamp=now_ms, key=record.key, value=record.value, headers=record.headers
        )
        if taken is None:
            return False
        self.size += record.size
        self.count += 1
        return True


class _Lane:
    """The way to one partition: batches leave in the order in which they were begun."""

    def __init__(self, new_batch: Callable[[], _Batch], send: Callable[[_Batch], Awaitable[Any]]) -> None:
        self._new_batch = new_batch
        self._send = send
        self._open: _Batch | None = None
        self._turn = asyncio.Lock()
        self.overdue: _Batch | None = None
        """One that callers have given up waiting for, and which may still go out."""

    def add(self, record: Record, now_ms: int) -> tuple[_Batch, bool]:
        """Put a record into a batch; True when that is a new one."""
        if self._open is not None and self._open.take(record, now_ms):
            return self._open, False
        self._open = self._new_batch()
        if not self._open.take(record, now_ms):
            raise Rejected(f"a message of {record.size} bytes is too large for a batch")
        return self._open, True

    async def queued(self, batch: _Batch) -> Any:
        """Hand the batch to aiokafka when its turn has come; what is returned tells when it is safe."""
        async with self._turn:
            if self._open is batch:
                self._open = None
            return await self._send(batch)


@dataclass(slots=True, eq=False)
class _Line:
    """A producer with its lanes. After a failure that upsets its numbering a new one takes its place."""

    producer: AIOKafkaProducer
    lanes: dict[TopicPartition, _Lane] = field(default_factory=dict)
    is_broken: bool = False


class Publisher:
    """Publishes in the order of the calls. Connects when first used."""

    def __init__(self, link: Link, clock: BrokerClock, *, patience_s: float) -> None:
        """`patience_s`: after so long without a word from the cluster, callers are told."""
        self._link = link
        self._clock = clock
        self._patience_s = patience_s
        self._line: _Line | None = None
        self._opening = asyncio.Lock()
        self._room = asyncio.Condition()
        self._waiting_bytes = 0
        self._under_way: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def partition_count(self, topic: str) -> int:
        """How many partitions the topic (its full name, known to exist) has by now."""
        line = await self._open()
        known = line.producer.client.cluster.partitions_for_topic(topic)
        if known is None:
            async with self._link.asking("asking for partitions"):
                known = await line.producer.partitions_for(topic)
        return len(known)

    async def publish(self, records: Sequence[Addressed]) -> None:
        """Publish records and return once they are safe; waits while too much is under way."""
        for part in _cut(records):
            await self._publish(part, sum(record.size for _, record in part))

    async def close(self) -> None:
        """Publish what has been taken, if that can be done soon, and take no more."""
        self._is_closed = True
        async with self._room:
            self._room.notify_all()
        waiting: set[asyncio.Task[None]] = set()
        if self._under_way:
            _, waiting = await asyncio.wait(self._under_way, timeout=_CLOSE_S)
        line, self._line = self._line, None
        if line is not None:
            await _stop(line.producer, seconds=0 if waiting else _CLOSE_S)
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _publish(self, part: Sequence[Addressed], size: int) -> None:
        deadline = time.monotonic() + self._patience_s
        line = await self._open()
        await self._wait_for_overdue(line, {partition for partition, _ in part})
        async with self._room:
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._room.wait_for(lambda: self._has_room(size))
            except TimeoutError as error:
                raise await self._link.explain("publishing", error) from error
            self._check_open()
        batches = self._add(line, part)
        await self._wait_for(line, batches, deadline - time.monotonic())

    def _add(self, line: _Line, part: Sequence[Addressed]) -> dict[TopicPartition, list[_Batch]]:
        now_ms = int(self._clock.ours().timestamp() * 1000)
        joined: dict[TopicPartition, list[_Batch]] = {}
        for partition, record in part:
            lane = line.lanes.get(partition) or self._new_lane(line, partition)
            batch, is_new = lane.add(record, now_ms)
            self._waiting_bytes += record.size
            batches = joined.setdefault(partition, [])
            if not batches or batches[-1] is not batch:
                batches.append(batch)
            if is_new:
                task = asyncio.create_task(self._send(line, lane, partition, batch))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
        return joined

    def _new_lane(self, line: _Line, partition: TopicPartition) -> _Lane:
        def new_batch() -> _Batch:
            return _Batch(line.producer.create_batch(), asyncio.get_running_loop().create_future())

        async def send(batch: _Batch) -> Any:
            return await line.producer.send_batch(
                batch.builder, partition.topic, partition=partition.partition
            )

        lane = line.lanes[partition] = _Lane(new_batch, send)
        return lane

    async def _send(self, line: _Line, lane: _Lane, partition: TopicPartition, batch: _Batch) -> None:
        sent = self._clock.ours()
        try:
            delivery = await lane.queued(batch)
            stamp: RecordMetadata | None = await delivery
        except (errors.KafkaError, errors.IllegalOperation) as error:
            _fail(batch, await self._reason(error, partition, batch))
            if not isinstance(error, errors.KafkaTimeoutError):  # that one was never on its way
                await self._retire(line)
        except asyncio.CancelledError:
            _fail(batch, BrokerUnavailable("kafka: closed before the messages were safe"))
            raise
        else:
            if stamp is not None and stamp.timestamp_type == 1:
                self._clock.stamped(time_of(stamp.timestamp), sent=sent)
            if not batch.done.done():
                batch.done.set_result(None)
        finally:
            async with self._room:
                self._waiting_bytes -= batch.size
                self._room.notify_all()

    async def _reason(self, error: BaseException, partition: TopicPartition, batch: _Batch) -> LabkeeperError:
        if isinstance(error, _TOO_LARGE):
            advice = "`labkeeper topics create` raises its limit"
            if batch.count == 1:
                return Rejected(
                    f"a message of {batch.size} bytes is too large for topic {partition.topic}: {advice}"
                )
            return Misconfigured(f"kafka: topic {partition.topic} takes small messages only: {advice}")
        return await self._link.explain(f"publishing to {partition.topic}", error)

    async def _wait_for_overdue(self, line: _Line, partitions: set[TopicPartition]) -> None:
        lanes = [line.lanes[partition] for partition in partitions if partition in line.lanes]
        overdue = [
            lane.overdue.done for lane in lanes if lane.overdue is not None and not lane.overdue.done.done()
        ]
        if overdue:
            _, waiting = await asyncio.wait(overdue, timeout=self._patience_s)
            if waiting:
                raise await self._link.explain("publishing", TimeoutError())

    async def _wait_for(
        self, line: _Line, joined: dict[TopicPartition, list[_Batch]], seconds: float
    ) -> None:
        futures = [batch.done for batches in joined.values() for batch in batches]
        _, waiting = await asyncio.wait(futures, timeout=max(0.1, seconds))
        if waiting:
            for partition, batches in joined.items():
                if not batches[-1].done.done():
                    line.lanes[partition].overdue = batches[-1]
            raise await self._link.explain("publishing", TimeoutError())
        for future in futures:
            future.result()

    def _has_room(self, size: int) -> bool:
        return self._is_closed or not self._waiting_bytes or self._waiting_bytes + size <= _MOST_WAITING_BYTES

    def _check_open(self) -> None:
        if self._is_closed:
            raise BrokerUnavailable("kafka: closed")

    async def _open(self) -> _Line:
        self._check_open()
        if self._line is not None:
            return self._line
        async with self._opening:
            self._check_open()
            if self._line is None:
                producer = AIOKafkaProducer(
                    enable_idempotence=True,
                    acks="all",
                    compression_type=_COMPRESSION,
                    max_batch_size=_BATCH_BYTES,
                    max_request_size=LARGEST_BATCH,
                    **self._link.options(),
                )
                try:
                    async with self._link.asking("connecting"):
                        await producer.start()
                except LabkeeperError:
                    await _stop(producer)
                    raise
                self._line = _Line(producer)
            return self._line

    async def _retire(self, line: _Line) -> None:
        if line.is_broken:
            return
        line.is_broken = True
        if self._line is line:
            self._line = None
        await _stop(line.producer)


def _fail(batch: _Batch, error: LabkeeperError) -> None:
    if not batch.done.done():
        batch.done.set_exception(error)
        batch.done.exception()  # whoever waited may have gone


async def _stop(producer: AIOKafkaProducer, *, seconds: float = _CLOSE_S) -> None:
    """Send what can be sent within so many seconds, then disconnect; what is left fails."""
    stopping = asyncio.create_task(producer.stop())
    _, waiting = await asyncio.wait([stopping], timeout=seconds)
    if waiting:
        logs.get_logger().warning(
            "kafka_messages_given_up",
            note="Kafka did not take all messages before the end; nothing is lost: whoever gave them keeps them and sends them again",
        )
        await producer.client.close()
        stopping.cancel()
        await asyncio.wait([stopping], timeout=_CLOSE_S)


def _cut(records: Sequence[Addressed]) -> Iterator[Sequence[Addressed]]:
    begin = filled = 0
    for at, (_, record) in enumerate(records):
        if filled + record.size > _PART_BYTES and at > begin:
            yield records[begin:at]
            begin, filled = at, 0
        filled += record.size
    if begin < len(records):
        yield records[begin:]
