"""Reading from Kafka: one batch in the reader's hands, one fetched ahead; behind them aiokafka holds one fetch of bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer

from pipeline import logs
from pipeline.broker.kafka_membership import Alone, GroupMembership
from pipeline.broker.kafka_reading import Chunk
from pipeline.broker.protocol import Batch
from pipeline.errors import BrokerUnavailable
from pipeline.retry import Backoff

FETCHING: Final[Mapping[str, Any]] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "none",  # where to begin is ours to say, and what has gone is told
    "fetch_max_bytes": 16 * 1024 * 1024,  # a larger message comes alone
    "max_partition_fetch_bytes": 1024 * 1024,
}
"""How consumers of ours fetch."""

_POLL_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 2.0
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
        self._ahead: list[Chunk] = []
        self._has_ahead = asyncio.Event()
        self._wants_more = asyncio.Event()
        self._wants_more.set()
        self._work: asyncio.Task[None] | None = None
        self._is_closed = False

    def start(self) -> None:
        """Begin to read ahead."""
        self._work = asyncio.create_task(self._serve())
        self._work.add_done_callback(lambda _: self._has_ahead.set())

    async def close(self) -> None:
        """Stop reading and leave the group. Harmless when repeated."""
        if self._is_closed:
            return
        self._is_closed = True
        self._membership.release()
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        await stop(self._consumer)

    def __aiter__(self) -> Self:
        """See the protocol."""
        return self

    async def __anext__(self) -> Batch:
        """The next batch. Can be cancelled, and asked again, without losing anything."""
        while True:
            await self._has_ahead.wait()
            if self._work is None or self._work.done():
                break
            chunks, self._ahead = self._ahead, []
            self._has_ahead.clear()
            self._wants_more.set()
            messages = self._membership.hand_out(chunks)
            if messages:
                return Batch(messages)
        if self._work is not None and not self._work.cancelled():
            self._work.result()
        raise StopAsyncIteration

    async def acknowledge(self, batch: Batch) -> None:
        """See the protocol."""
        await self._membership.acknowledge(
            {message.partition: message.offset + 1 for message in batch.messages}
        )

    async def _serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._membership.keep())
                tasks.create_task(self._read_ahead())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group.exceptions[0].__cause__

    async def _read_ahead(self) -> None:
        backoff = Backoff(cap_s=_LONGEST_PAUSE_S)
        while True:
            await self._wants_more.wait()
            try:
                self._ahead = await self._next_batch()
            except BrokerUnavailable as error:
                logs.get_logger().warning("broker_read_failed", topic=self._options.topic, reason=str(error))
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            if self._ahead:
                self._wants_more.clear()
                self._has_ahead.set()

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
