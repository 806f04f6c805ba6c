"""Messages of ours as Kafka records, and back. What other clients write (no key, odd bytes, null values) is taken too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from aiokafka.partitioner import murmur2

from pipeline.broker.catalogue import check_size
from pipeline.broker.protocol import Outgoing, Received
from pipeline.broker.record_batch import LazyHeaders
from pipeline.errors import Rejected

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
OVERHEAD: Final = 64
"""Bytes that a record and its batch cost at most, beside key, headers and value."""

_NO_HEADERS: Final = MappingProxyType[str, str]({})
_POSITIVE: Final = 0x7FFFFFFF
_LAST_MILLISECOND: Final = 253_402_300_799_999
"""Of the year 9999."""


class Record(NamedTuple):
    """A message in bytes."""

    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    size: int
    """Bytes before compression."""


def record_of(message: Outgoing, *, compacted: bool) -> Record:
    """The message in bytes; raises `Rejected` for what is too large, and for text that UTF-8 cannot express.

    On a compacted topic an empty value becomes null, by which Kafka knows a deletion. Elsewhere it stays empty.
    """
    try:
        key = message.key.encode()
        size = len(key) + len(message.value)
        headers = []
        for name, text in message.headers.items():
            raw = text.encode()
            size += len(raw) + _length(name)
            headers.append((name, raw))
    except UnicodeEncodeError as error:
        raise Rejected(f"the key or a header of the message for {message.key!a} is not valid text") from error
    check_size(size)
    value = None if compacted and not message.value else message.value
    return Record(key, value, headers, size + OVERHEAD)


@lru_cache(maxsize=1024)
def _length(name: str) -> int:
    return len(name.encode())


@lru_cache(maxsize=65536)
def _hash(key: bytes) -> int:
    return murmur2(key) & _POSITIVE  # type: ignore[no-any-return]


def kafka_partition_of(key: bytes, partitions: int) -> int:
    """Where messages of this key go: as Java clients decide, so that all producers of a machine agree.

    Those made with librdkafka (kcat among them) agree when they are told `partitioner=murmur2_random`.
    """
    return _hash(key) % partitions


def received(topic: str, partition: int, records: Iterable[Any]) -> list[Received]:
    """Records of one partition as messages of the topic (its name without prefix)."""
    messages = []
    stamp, published_at = -1, time_of(0)
    for record in records:
        if record.timestamp != stamp:  # all of a batch have the same when the broker stamps them
            stamp = record.timestamp
            published_at = time_of(stamp)
        messages.append(
            Received(
                topic,
                partition,
                record.offset,
                _key(record.key),
                record.value or b"",
                _Headers(record.headers) if record.headers else _NO_HEADERS,
                published_at,
            )
        )
    return messages


def _key(raw: bytes | None) -> str:
    return raw.decode(errors="replace") if raw else ""


def time_of(milliseconds: int) -> datetime:
    """A stamp as a time. A topic that its producers stamp may hold any number."""
    return EPOCH + timedelta(milliseconds=min(max(milliseconds, 0), _LAST_MILLISECOND))


class _Headers(LazyHeaders):
    """Headers as Kafka has them: a name may come twice (the last counts), a value may be null or no text."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Sequence[tuple[str, bytes | None]]) -> None:
        super().__init__(b"")
        self._pairs = pairs

    def _all(self) -> dict[str, str]:
        if self._found is None:
            self._found = {name: (value or b"").decode(errors="replace") for name, value in self._pairs}
        return self._found
