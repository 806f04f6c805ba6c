"""Reading from the embedded broker: one batch in the reader's hands, one fetched ahead, and no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Self

from pipeline import logs
from pipeline.broker import embedded_log
from pipeline.broker.embedded_log import Wanted
from pipeline.broker.embedded_membership import Chunk, Membership, Reading
from pipeline.broker.embedded_session import Cursor, Session
from pipeline.broker.protocol import Batch, Received
from pipeline.broker.read_ahead import ReadAhead
from pipeline.broker.record_batch import Place, decode
from pipeline.broker.waiting import is_set_within

_BATCH_BYTES: Final = 32 * 1024 * 1024
_LOOK_ANYWAY_S: Final = 1.0  # a notification may have been lost


@dataclass(frozen=True, slots=True)
class Options:
    """What the reader asked for."""

    topic: str
    max_records: int
    max_wait: timedelta


class Arrivals:
    """Counts what is said to have been published since it was last looked."""

    def __init__(self) -> None:
        self.something = asyncio.Event()
        self._enough = asyncio.Event()
        self._count = 0
        self._since = 0.0

    def add(self, count: int, *, enough: int) -> None:
        """So many messages more; `enough` of them end the wait for more."""
        if not self.something.is_set():
            self._since = time.monotonic()
            self.something.set()
        self._count += count
        if self._count >= enough:
            self._enough.set()

    def clear(self) -> None:
        """They are about to be read."""
        self.something.clear()
        self._enough.clear()
        self._count = 0

    async def gather(self, max_wait: float) -> None:
        """Wait for the first, and then at most `max_wait` seconds for more."""
        if await is_set_within(self.something, _LOOK_ANYWAY_S):
            await is_set_within(self._enough, self._since + max_wait - time.monotonic())


class EmbeddedSubscription:
    """See `protocol.Subscription`."""

    def __init__(
        self, options: Options, session: Session, membership: Membership, arrivals: Arrivals
    ) -> None:
        self._options = options
        self._session = session
        self._membership = membership
        self._arrivals = arrivals
        self._rest: list[Chunk] = []
        """Fetched beyond the last batch, because a block is fetched as a whole."""
        self._is_behind = True
        self._messages_per_segment = 1.0
        self._reader = ReadAhead(
            options.topic, keep=membership.keep, fetch=self._next_batch, hand_out=_hand_out
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
        await self._reader.stop()
        await self._membership.leave()
        await self._session.close()

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

    def published(self, news: Mapping[int, int] | None) -> None:
        """Something was published, perhaps for us."""
        if news is None:
            self._arrivals.add(0, enough=self._options.max_records)
            return
        ours = sum(news.get(reading.partition_id, 0) for reading in self._membership.readings())
        if ours:
            self._arrivals.add(ours, enough=self._options.max_records)

    def rearranged(self, group: str | None) -> None:
        """Members have come or gone, perhaps of our group."""
        self._membership.rearranged(group)

    async def _next_batch(self) -> list[Chunk]:
        """Chunks with at least one message and at most `max_records` of them."""
        while True:
            self._rest = [chunk for chunk in self._rest if chunk.reading.is_open]
            held = sum(len(chunk.messages) for chunk in self._rest)
            if not self._is_behind and not held:
                await self._arrivals.gather(self._options.max_wait.total_seconds())
            if held < self._options.max_records:
                await self._fetch(self._options.max_records - held)
            chunks, self._rest = _split(self._rest, self._options.max_records)
            if chunks:
                return chunks

    async def _fetch(self, records: int) -> None:
        self._arrivals.clear()
        readings = {reading.partition_id: reading for reading in self._membership.readings()}
        wanted = Wanted(
            positions={partition_id: reading.position for partition_id, reading in readings.items()},
            records=records,
            size=_BATCH_BYTES,
            segments=int(records / self._messages_per_segment) + 1,
        )
        if not readings:
            self._is_behind = False
            return
        partitions = {partition_id: reading.partition for partition_id, reading in readings.items()}
        found = await self._session.run(
            lambda cursor: read_blocks(cursor, wanted, self._options.topic, partitions)
        )
        for partition_id, messages in found.blocks:
            self._take(readings[partition_id], messages)
        self._is_behind = not found.is_all
        if found.blocks:
            count = sum(len(messages) for _, messages in found.blocks)
            self._messages_per_segment = max(1.0, count / len(found.blocks))

    def _take(self, reading: Reading, messages: list[Received]) -> None:
        first = messages[0].offset
        if first > reading.position:
            logs.get_logger().warning(
                "broker_messages_gone",
                topic=self._options.topic,
                partition=reading.partition,
                messages=first - reading.position,
            )
        reading.position = messages[-1].offset + 1
        self._rest.append(Chunk(reading, messages))


@dataclass(frozen=True, slots=True)
class Found:
    """What a look into the log brought."""

    blocks: Sequence[tuple[int, list[Received]]]
    """Partition id and messages."""
    is_all: bool
    """Nothing was left for the next look."""


def read_blocks(cursor: Cursor, wanted: Wanted, topic: str, partitions: Mapping[int, int]) -> Found:
    """Fetch and unpack. `partitions` maps ids to numbers."""
    segments = embedded_log.read(cursor, wanted)
    blocks = []
    for segment in segments:
        partition = partitions[segment.partition_id]
        place = Place(topic, partition, segment.base_offset, segment.published_at)
        skip = max(0, wanted.positions[segment.partition_id] - segment.base_offset)
        blocks.append((segment.partition_id, decode(segment.payload, segment.count, place, skip=skip)))
    return Found(blocks, wanted.is_all(segments))


def _split(chunks: list[Chunk], records: int) -> tuple[list[Chunk], list[Chunk]]:
    """The first `records` messages, and the rest."""
    taken: list[Chunk] = []
    for at, chunk in enumerate(chunks):
        if len(chunk.messages) > records:
            head, tail = chunk.messages[:records], chunk.messages[records:]
            taken += [replace(chunk, messages=head)] if head else []
            return taken, [replace(chunk, messages=tail), *chunks[at + 1 :]]
        taken.append(chunk)
        records -= len(chunk.messages)
    return taken, []


def _hand_out(chunks: list[Chunk]) -> list[Received]:
    """The messages that are still ours to read."""
    messages: list[Received] = []
    for chunk in chunks:
        if chunk.reading.is_open:
            messages += chunk.messages
            chunk.reading.handed_out = chunk.messages[-1].offset + 1
    return messages
