"""Reading partitions on Kafka from where we say, and going on where something is in the way."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition, errors

from pipeline import logs
from pipeline.broker.kafka_client import Link, has_given_up
from pipeline.broker.kafka_inspector import Inspector
from pipeline.broker.kafka_records import received
from pipeline.broker.protocol import From, Received
from pipeline.errors import LabkeeperError

_ONE_MS: Final = 200
"""Milliseconds to wait for one message, where they are read one by one."""


@dataclass(slots=True, eq=False)
class Reading:
    """A partition that is being read. Regained after a loss it is another one, so that old messages stay old."""

    start: int
    """The offset at which this reading began."""
    handed_out: int
    """The first offset that the reader has not been given."""
    acknowledged: int
    is_lost: bool = False

    @classmethod
    def begin(cls, at: int) -> Reading:
        """Read from offset `at` on."""
        return cls(at, at, at)

    @property
    def is_in_hand(self) -> bool:
        """Whether the reader has messages of it that are not acknowledged."""
        return not self.is_lost and self.acknowledged < self.handed_out


@dataclass(slots=True)
class Chunk:
    """Messages of one partition, fetched and not yet handed out."""

    reading: Reading
    epoch: int
    messages: list[Received]


class Reader:
    """Reads with a consumer whose positions are the readings'."""

    def __init__(self, topic: str, consumer: AIOKafkaConsumer, inspector: Inspector, link: Link) -> None:
        """`topic` without prefix."""
        self._topic = topic
        self._consumer = consumer
        self._inspector = inspector
        self._link = link
        self._readings: dict[TopicPartition, Reading] = {}
        self._epoch = 0
        """Counts up whenever what has been fetched and not handed out must be dropped."""

    async def read(self, limit: int, seconds: float, only: Collection[TopicPartition] = ()) -> list[Chunk]:
        """Up to `limit` messages, those that are there or come within so many seconds."""
        try:
            try:
                fetched = await self._consumer.getmany(*only, timeout_ms=seconds * 1000, max_records=limit)
            except UnicodeDecodeError:
                return await self._read_one_by_one(limit)
        except errors.NoOffsetForPartitionError:
            return []  # we say where to begin as soon as we know
        except errors.OffsetOutOfRangeError as error:
            await self._skip_what_is_gone(error)
            return []
        except errors.KafkaError as error:
            self._check_life()
            raise await self._link.explain(f"reading {self._topic}", error) from error
        if not fetched:
            self._check_life()
        return self._chunks(fetched)

    def _chunks(self, fetched: Mapping[TopicPartition, Sequence[Any]]) -> list[Chunk]:
        return [
            Chunk(self._readings[partition], self._epoch, received(self._topic, partition.partition, records))
            for partition, records in fetched.items()
        ]

    async def _read_one_by_one(self, limit: int) -> list[Chunk]:
        """Step over what the client library cannot read: a header whose name is no text, from a foreign producer.

        What was fetched together with it is lost to us, so everything that was not handed out is fetched again.
        """
        self._rewind()
        epoch = self._epoch
        chunks: list[Chunk] = []
        for partition in tuple(self._readings):
            while len(chunks) < limit and epoch == self._epoch:
                try:
                    fetched = await self._consumer.getmany(partition, timeout_ms=_ONE_MS, max_records=1)
                except UnicodeDecodeError as error:
                    await self._step_over(partition, epoch, error)
                    continue
                if not fetched:
                    break
                chunks += self._chunks(fetched)
        return chunks

    async def _step_over(self, partition: TopicPartition, epoch: int, error: UnicodeDecodeError) -> None:
        offset = await self._consumer.position(partition)
        if epoch == self._epoch:
            logs.get_logger().error(
                "broker_message_unreadable",
                topic=self._topic,
                partition=partition.partition,
                offset=offset,
                reason=str(error),
            )
            self._consumer.seek(partition, offset + 1)

    def _rewind(self) -> None:
        """Fetch again from where the reader is, and forget what was fetched for it."""
        self._epoch += 1
        for partition, reading in self._readings.items():
            self._consumer.seek(partition, reading.handed_out)

    def _check_life(self) -> None:
        if has_given_up(self._consumer):
            raise LabkeeperError(f"kafka: the client library has stopped reading {self._topic}: start again")

    def hand_out(self, chunks: Sequence[Chunk]) -> list[Received]:
        """The messages that are still ours to read."""
        messages: list[Received] = []
        for chunk in chunks:
            if chunk.epoch == self._epoch and not chunk.reading.is_lost:
                messages += chunk.messages
                chunk.reading.handed_out = chunk.messages[-1].offset + 1
        return messages

    async def _skip_what_is_gone(self, error: errors.OffsetOutOfRangeError) -> None:
        """Go on with the first message that is left: retention has overtaken the reader, or the log is another one."""
        epoch = self._epoch
        wanted: Mapping[TopicPartition, int] = error.args[0]
        firsts = await self._inspector.offsets(list(wanted), From.EARLIEST)
        for partition, offset in wanted.items():
            reading = self._readings.get(partition)
            if reading is None or epoch != self._epoch:
                continue
            first = firsts[partition]
            logs.get_logger().warning(
                "broker_messages_gone",
                topic=self._topic,
                partition=partition.partition,
                wanted=offset,
                first=first,
            )
            if reading.is_in_hand:
                reading.is_lost = True
            self._readings[partition] = Reading.begin(first)
            self._consumer.seek(partition, first)
