"""The embedded broker's log in SQL: add blocks of messages, read them, find a time, forget what is old.

A publish takes the locks of its partitions, in order, before it gets offsets, and keeps them until it commits. So offsets
become visible in order and without gaps, and a reader that has seen one has seen all before it.
"""

from __future__ import annotations

import io
import struct
from binascii import hexlify
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, LiteralString, Self

from pipeline.broker.embedded_session import Cursor
from pipeline.broker.protocol import From

PUBLISHED: Final = "labkeeper_broker_published"
"""Channel that says what was published: `<partition id>:<messages>`, separated by commas; empty: look everywhere."""
_LONGEST_NOTE: Final = 7900

_APPEND: Final[LiteralString] = """
SELECT FROM labkeeper_broker.log_partitions WHERE id = ANY(%(partitions)s) ORDER BY id FOR UPDATE;

WITH now AS MATERIALIZED (SELECT clock_timestamp() AS at)
INSERT INTO labkeeper_broker.log_segments (partition_id, base_offset, count, size, published_at, payload)
SELECT p.id, p.next_offset + b.before, b.count, b.size, greatest(now.at, p.last_published_at), b.payload
FROM now, unnest(%(ids)s::int[], %(before)s::int[], %(counts)s::int[], %(sizes)s::int[], %(payloads)s::bytea[])
    AS b (id, before, count, size, payload)
JOIN labkeeper_broker.log_partitions p ON p.id = b.id;

UPDATE labkeeper_broker.log_partitions p
SET next_offset = p.next_offset + t.total, last_published_at = greatest(clock_timestamp(), p.last_published_at)
FROM unnest(%(partitions)s::int[], %(totals)s::int[]) AS t (id, total)
WHERE p.id = t.id;

SELECT pg_notify(%(channel)s, %(note)s)
"""

_READ: Final[LiteralString] = """
COPY (
    SELECT partition_id, base_offset, count, size, published_at, payload
    FROM (
        SELECT s.*, sum(s.count) OVER earlier AS records_before, sum(s.size) OVER earlier AS bytes_before
        FROM unnest(%(ids)s::int[], %(positions)s::bigint[]) AS r (id, position)
        CROSS JOIN LATERAL (
            SELECT partition_id, base_offset, count, size, published_at, payload
            FROM labkeeper_broker.log_segments
            WHERE partition_id = r.id AND base_offset >= coalesce((
                SELECT base_offset FROM labkeeper_broker.log_segments
                WHERE partition_id = r.id AND base_offset <= r.position
                ORDER BY base_offset DESC LIMIT 1
            ), r.position) AND base_offset + count > r.position
            ORDER BY base_offset
            LIMIT %(segments)s
        ) AS s
        WINDOW earlier AS (
            ORDER BY s.published_at, s.partition_id, s.base_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        )
    ) AS found
    WHERE coalesce(records_before, 0) < %(records)s AND coalesce(bytes_before, 0) < %(bytes)s
    ORDER BY published_at, partition_id, base_offset
) TO STDOUT (FORMAT binary)
"""

_COPY_HEADER: Final = 19  # bytes: signature, flags, no extension
_COPY_COLUMN_COUNT: Final = struct.Struct(">h")
_COPY_FIXED: Final = struct.Struct(">iiiqiiiiiqi")
"""Five columns, each behind its length, and the length of the payload."""
_POSTGRES_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Block:
    """Messages of one partition to be published together."""

    partition_id: int
    count: int
    size: int
    """Bytes before compression."""
    payload: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """A block in the log."""

    partition_id: int
    base_offset: int
    count: int
    size: int
    published_at: datetime
    payload: memoryview


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read."""

    positions: Mapping[int, int]
    """Partition id to the first offset wanted."""
    records: int
    """Stop after the segment that reaches this many messages ..."""
    size: int
    """... or this many bytes."""
    segments: int
    """At most so many of each partition."""

    def is_all(self, found: Sequence[Segment]) -> bool:
        """Whether `found` is everything there was, and none of the limits cut it short."""
        return (
            sum(segment.count for segment in found) < self.records
            and sum(segment.size for segment in found) < self.size
            and max(Counter(segment.partition_id for segment in found).values(), default=0) < self.segments
        )


@dataclass(frozen=True, slots=True)
class PartitionState:
    """A row of `log_partitions`."""

    id: int
    partition: int
    log_start: int
    next_offset: int


class _Literal:
    """Bytes in a statement. psycopg2 has a class for it, which takes four times as long."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def __conform__(self, _protocol: object) -> Self:  # psycopg2's name
        return self

    def getquoted(self) -> bytes:
        return b"'\\x" + hexlify(self._raw) + b"'::bytea"


def create(cursor: Cursor, topics: Mapping[str, int]) -> None:
    """Make tables and partitions where they are missing. `topics` maps full names to numbers of partitions."""
    cursor.execute(Path(__file__).with_name("embedded.sql").read_text())
    for topic, partitions in topics.items():
        cursor.execute(
            "INSERT INTO labkeeper_broker.log_partitions (topic, partition) SELECT %s, generate_series(0, %s)"
            " ON CONFLICT DO NOTHING",
            (topic, partitions - 1),
        )


def partitions_of(cursor: Cursor, topic: str) -> list[PartitionState]:
    """All partitions of a topic, in order. Without a lock: what is being published may be missing."""
    cursor.execute(
        "SELECT id, partition, log_start, next_offset FROM labkeeper_broker.log_partitions"
        " WHERE topic = %s ORDER BY partition",
        (topic,),
    )
    return [PartitionState(*row) for row in cursor.fetchall()]


def append(cursor: Cursor, blocks: Sequence[Block]) -> None:
    """Publish blocks; all or none. One round trip, so that no lock is ever held while the network is asked for more."""
    totals: dict[int, int] = {}
    before = []
    for block in blocks:
        before.append(totals.get(block.partition_id, 0))
        totals[block.partition_id] = before[-1] + block.count
    note = ",".join(f"{partition_id}:{count}" for partition_id, count in totals.items())
    cursor.execute(
        _APPEND,
        {
            "partitions": list(totals),
            "totals": list(totals.values()),
            "ids": [block.partition_id for block in blocks],
            "before": before,
            "counts": [block.count for block in blocks],
            "sizes": [block.size for block in blocks],
            "payloads": [_Literal(block.payload) for block in blocks],
            "channel": PUBLISHED,
            "note": note if len(note) <= _LONGEST_NOTE else "",
        },
    )


def read(cursor: Cursor, wanted: Wanted) -> list[Segment]:
    """Segments from the wanted positions on, oldest first. The first of a partition may begin before its position."""
    query = cursor.mogrify(
        _READ,
        {
            "ids": list(wanted.positions),
            "positions": list(wanted.positions.values()),
            "segments": wanted.segments,
            "records": wanted.records,
            "bytes": wanted.size,
        },
    )
    answer = io.BytesIO()
    cursor.copy_expert(query, answer)  # binary: a fifth of the time that bytea takes as text
    return list(_segments(answer.getbuffer()))


def _segments(answer: memoryview) -> Iterator[Segment]:
    at = _COPY_HEADER
    while _COPY_COLUMN_COUNT.unpack_from(answer, at)[0] != -1:
        at += _COPY_COLUMN_COUNT.size
        columns = _COPY_FIXED.unpack_from(answer, at)
        _, partition_id, _, base_offset, _, count, _, size, _, microseconds, length = columns
        at += _COPY_FIXED.size
        published_at = _POSTGRES_EPOCH + timedelta(microseconds=microseconds)
        yield Segment(partition_id, base_offset, count, size, published_at, answer[at : at + length])
        at += length


def offset_of(cursor: Cursor, partition: PartitionState, start: From | datetime) -> int:
    """The offset at which reading from `start` begins."""
    if isinstance(start, datetime):
        return _offset_at(cursor, partition, start)
    return partition.log_start if start is From.EARLIEST else partition.next_offset


def _offset_at(cursor: Cursor, partition: PartitionState, time: datetime) -> int:
    """First offset published at or after `time`: by halving, for times only grow and have no index."""
    low, high = partition.log_start, partition.next_offset
    while low < high:
        middle = (low + high) // 2
        cursor.execute(
            "SELECT base_offset, base_offset + count, published_at < %s FROM labkeeper_broker.log_segments"
            " WHERE partition_id = %s AND base_offset <= %s ORDER BY base_offset DESC LIMIT 1",
            (time, partition.id, middle),
        )
        row = cursor.fetchone()
        if row is None:
            low = middle + 1  # trimmed meanwhile
            continue
        base_offset, end, before = row
        low, high = (end, high) if before else (low, base_offset)
    return low


def trim(cursor: Cursor, topic: str, number: int, *, before: datetime, at_most: int = 1000) -> int:
    """Delete up to `at_most` blocks of a partition that are older than `before`; says how many. Run in a transaction.

    Does nothing while another process is doing it.
    """
    cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended('labkeeper_broker trim', 2))")
    if not cursor.fetchone()[0]:
        return 0
    partition = partitions_of(cursor, topic)[number]
    cursor.execute(
        "DELETE FROM labkeeper_broker.log_segments WHERE partition_id = %(id)s AND base_offset IN ("
        " SELECT base_offset FROM labkeeper_broker.log_segments"
        " WHERE partition_id = %(id)s AND base_offset >= %(start)s AND base_offset < %(end)s"
        " ORDER BY base_offset LIMIT %(most)s"
        ") RETURNING base_offset + count",
        {
            "id": partition.id,
            "start": partition.log_start,
            "end": _offset_at(cursor, partition, before),
            "most": at_most,
        },
    )
    ends = [row[0] for row in cursor.fetchall()]
    if ends:
        cursor.execute(
            "UPDATE labkeeper_broker.log_partitions SET log_start = %s WHERE id = %s",
            (max(ends), partition.id),
        )
    return len(ends)
