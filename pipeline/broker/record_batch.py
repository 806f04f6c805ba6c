"""The bytes in which the embedded broker keeps messages: many in one, compressed when that helps.

Layout: one byte for the compression; then, compressed, three 32-bit lengths a message (key, headers, value), all keys,
all headers (a JSON object, or nothing), all values. Side by side, what is alike compresses best.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple

import cramjam
import orjson

from pipeline.broker.protocol import Outgoing, Received
from pipeline.errors import Rejected

_PLAIN: Final = b"\0"
_ZSTANDARD: Final = b"\1"
_LEVEL: Final = 1
_LENGTHS: Final = 12  # bytes
_WORTH_COMPRESSING: Final = 256  # bytes
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Record(NamedTuple):
    """A message in bytes."""

    key: bytes
    headers: bytes
    """A JSON object, or nothing when there are none."""
    value: bytes
    size: int
    """Bytes before compression."""


def record_of(message: Outgoing) -> Record:
    """The message in bytes; raises `Rejected` for text that UTF-8 cannot express."""
    try:
        headers = _json(message.headers) if message.headers else b""
        key, value = message.key.encode(), message.value
        return Record(key, headers, value, len(key) + len(headers) + len(value) + _LENGTHS)
    except (UnicodeEncodeError, orjson.JSONEncodeError) as error:
        raise Rejected(f"the key or a header of the message for {message.key!a} is not valid text") from error


def _json(headers: Mapping[str, str]) -> bytes:
    return orjson.dumps(headers if type(headers) is dict else dict(headers))


def encode(records: Sequence[Record]) -> bytes:
    """Put records into one block of bytes."""
    lengths = [
        length for record in records for length in (len(record.key), len(record.headers), len(record.value))
    ]
    body = b"".join(
        (
            struct.pack(f"<{len(lengths)}I", *lengths),
            *(record.key for record in records),
            *(record.headers for record in records),
            *(record.value for record in records),
        )
    )
    if len(body) >= _WORTH_COMPRESSING:
        small = bytes(cramjam.zstd.compress(body, _LEVEL))
        if len(small) < len(body):
            return _ZSTANDARD + small
    return _PLAIN + body


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block of records lies in the log."""

    topic: str
    partition: int
    base_offset: int
    published_at: datetime


def decode(block: memoryview, count: int, place: Place, *, skip: int = 0) -> list[Received]:
    """Take a block of `count` records apart again, leaving out the first `skip`."""
    body = memoryview(cramjam.zstd.decompress(block[1:])) if block[0] == _ZSTANDARD[0] else block[1:]
    lengths = struct.unpack_from(f"<{3 * count}I", body)
    key_lengths, header_lengths, value_lengths = lengths[::3], lengths[1::3], lengths[2::3]
    key_at = _LENGTHS * count
    header_at = key_at + sum(key_lengths)
    value_at = header_at + sum(header_lengths)
    topic, partition, published_at = place.topic, place.partition, place.published_at
    messages: list[Received] = []
    offset = place.base_offset
    for key_length, header_length, value_length in zip(
        key_lengths, header_lengths, value_lengths, strict=True
    ):
        if skip:
            skip -= 1
        else:
            headers = (
                LazyHeaders(bytes(body[header_at : header_at + header_length]))
                if header_length
                else _NO_HEADERS
            )
            messages.append(
                Received(
                    topic,
                    partition,
                    offset,
                    str(body[key_at : key_at + key_length], "utf-8"),
                    bytes(body[value_at : value_at + value_length]),
                    headers,
                    published_at,
                )
            )
        offset += 1
        key_at += key_length
        header_at += header_length
        value_at += value_length
    return messages


class LazyHeaders(Mapping[str, str]):
    """Headers that are read only if somebody looks."""

    __slots__ = ("_found", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._found: dict[str, str] | None = None

    def _all(self) -> dict[str, str]:
        if self._found is None:
            self._found = orjson.loads(self._raw)
        return self._found or {}

    def __getitem__(self, name: str) -> str:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return repr(self._all())
