"""Reading from Kafka: one batch in the reader's hands, one fetched ahead; behind them aiokafka holds one fetch of bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer

from pipeline.broker.kafka_membership import Alone, GroupMembership
from pipeline.broker.kafka_reading import Chunk
from pipeline.broker.protocol import Batch
from pipeline.broker.read_ahead import ReadAhead

FETCHING: Final[Mapping[str, Any]] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "none",  # where to begin is ours to say, and what has gone is told
    "fetch_max_bytes": 16 * 1024 * 1024,  # a larger message comes alone
    "max_partition_fetch_bytes": 1024 * 1024,
}
"""How consumers of ours fetch."""

_POLL_S: Final = 1.0
_CLOSE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the reader asked for."""

    topic: str
    max_records: int
    max_wait: timedelta


class KafkaSubscription:
    """See `protocol.Subscription`."""

    def __init__(
        self, options: Options, consumer: AIOKafkaConsumer, membership: Alone | GroupMembership
    ) -> None:
        self._options = options
        self._consumer = consumer
        self._membership = membership
        self._reader = ReadAhead(
            options.topic, keep=membership.keep, fetch=self._next_batch, hand_out=membership.hand_out
        )
        self._is_closed = False

    def start(self) -> None:
        """Begin to read ahead."""
        self._reader.start()

    async def close(self) -> None:
        """Stop reading and leave the group. Harmless when repeated."""
        if self._is_closed:
            return
        self._is_closed = True
        self._membership.release()
        await self._reader.stop()
        await stop(self._consumer)

    def __aiter__(self) -> Self:
        """See the protocol."""
        return self

    async def __anext__(self) -> Batch:
        """The next batch. Can be cancelled, and asked again, without losing anything."""
        return await self._reader.batch()

    async def acknowledge(self, batch: Batch) -> None:
        """See the protocol."""
        await self._membership.acknowledge(
            {message.partition: message.offset + 1 for message in batch.messages}
        )

    async def _next_batch(self) -> list[Chunk]:
        """What is there or comes soon, at most `max_records`; nothing after a while without any."""
        most = self._options.max_records
        only = self._membership.idle()
        chunks = await self._membership.read(most, 0, only) if only else []
        if not chunks:
            only = ()
            chunks = await self._membership.read(most, _POLL_S)
        deadline = time.monotonic() + self._options.max_wait.total_seconds()
        while chunks and (room := most - _count(chunks)) > 0 and (left := deadline - time.monotonic()) > 0:
            chunks += await self._membership.read(room, left, only)
        return chunks


def _count(chunks: list[Chunk]) -> int:
    return sum(len(chunk.messages) for chunk in chunks)


async def stop(consumer: AIOKafkaConsumer) -> None:
    """Leave the group, if that can be done soon, and disconnect."""
    stopping = asyncio.create_task(consumer.stop())
    _, waiting = await asyncio.wait([stopping], timeout=_CLOSE_S)
    if waiting:
        await consumer._client.close()  # noqa: SLF001  # what it waits for then fails at once
        await asyncio.wait([stopping], timeout=_CLOSE_S)
