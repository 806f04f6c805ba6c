"""How names, keys and messages look on Pub/Sub. Pure: no connection, no clock.

A partition is an ordering key: its number in decimal. So a partition has one order, as the protocol promises, and a
message that is put behind all others (a *fence*) shows where the end is. The machine id travels as an attribute.

Pub/Sub numbers nothing. An offset is made of the time of publishing, so that a reader who begins elsewhere comes to the
same number: the microseconds times a hundred, and one more than the last for those that share them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from google.pubsub_v1.types import pubsub as types

from pipeline.broker.partitions import partition_of
from pipeline.broker.protocol import Outgoing, Received
from pipeline.broker.record_batch import record_of
from pipeline.errors import Rejected
from schemas import envelope
from schemas.topics import DEAD_SUFFIX
from schemas.wire import format_time

Message = Any
"""A protocol buffer `PubsubMessage`; the generated classes have no types."""
PubsubMessage: Final = types.PubsubMessage.pb()

KEY: Final = "labkeeper_key"
"""Attribute: the message's key."""
PACKED: Final = "labkeeper_packed"
"""Attribute: so many bytes of the data are the value; what follows are headers, as JSON, that are no good attributes."""
FENCE: Final = "labkeeper_fence"
"""Attribute of a message that is none: whoever put it there learns by it how far reading has come. Others pass over it."""
CUT: Final = "dead_cut"
"""Header of a dead letter whose value did not fit with its reason: how many bytes it had."""

MESSAGE_BYTES: Final = 9_990_000
"""Pub/Sub takes 10 MB in a message and in a request; its frame needs some."""
_ROOM_FOR_REASON: Final = 50_000
"""Kept free, so that whatever was taken can be parked with its reason."""
_ATTRIBUTES: Final = 100
_OURS: Final = 2
_NAME_BYTES: Final = 256
_VALUE_BYTES: Final = 1024
_SLOTS: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LANE: Final = re.compile(r"0|[1-9]\d{0,3}")

_SOURCE: Final = "CloudPubSubDeadLetterSource"
_SOURCE_SUBSCRIPTION: Final = _SOURCE + "Subscription"
_SOURCE_COUNT: Final = _SOURCE + "DeliveryCount"


@dataclass(frozen=True, slots=True)
class Names:
    """Full names of what a lab has in a project."""

    project: str

    def topic(self, full_name: str) -> str:
        """Of a topic, given its name with prefix."""
        return f"projects/{self.project}/topics/{full_name}"

    def subscription(self, full_name: str, group: str) -> str:
        """Of a group's subscription."""
        return f"projects/{self.project}/subscriptions/{full_name}.{group}"

    def snapshot(self, full_name: str, name: str) -> str:
        """Of a snapshot."""
        return f"projects/{self.project}/snapshots/{full_name}.{name}"


class Offsets:
    """Numbers the messages of one reader."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}

    def next(self, partition: int, published_at: datetime) -> int:
        """The offset of the partition's next message."""
        offset = max((published_at - _EPOCH) // _MICROSECOND * _SLOTS, self._last.get(partition, -1) + 1)
        self._last[partition] = offset
        return offset


def time_of(offset: int) -> datetime:
    """A time not after the publishing of the message with that offset, from which on reading comes to the same offsets."""
    return whole_millisecond(_EPOCH + _MICROSECOND * (offset // _SLOTS))


def whole_millisecond(at: datetime) -> datetime:
    """Where the millisecond begins: Pub/Sub's clock has no finer steps, so numbering can begin there."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def published_at(message: Message) -> datetime:
    """Pub/Sub's clock when it took the message."""
    at = message.publish_time
    return _EPOCH + timedelta(seconds=at.seconds, microseconds=at.nanos // 1000)


def fence(name: str, lane: int) -> Message:
    """A message that marks the end of a lane."""
    return PubsubMessage(attributes={FENCE: name}, ordering_key=str(lane))


def encode(message: Outgoing, partitions: int) -> Message:
    """The message for Pub/Sub; raises `Rejected` for one that it can never take."""
    record = record_of(message)
    if len(record.key) > _VALUE_BYTES:
        raise Rejected(
            f"the key of a message is too long: {len(record.key)} bytes, and {_VALUE_BYTES} are the most"
        )
    lane = str(partition_of(record.key, partitions))
    encoded = _encoded(message, message.headers, message.value, lane)
    if not message.topic.endswith(DEAD_SUFFIX):
        return _checked(encoded, MESSAGE_BYTES - _ROOM_FOR_REASON)
    excess = encoded.ByteSize() - MESSAGE_BYTES
    if excess > 0:  # must be parked all the same, or it would stop its consumer for ever
        headers = {**message.headers, CUT: str(len(message.value))}
        value = message.value[: max(0, len(message.value) - excess - _ROOM_FOR_REASON)]
        encoded = _encoded(message, headers, value, lane)
    return _checked(encoded, MESSAGE_BYTES)


def decode(topic: str, message: Message, partitions: int, offsets: Offsets) -> Received:
    """The message as readers know it; also one that another program published."""
    attributes = dict(message.attributes)
    value, headers = _unpacked(message.data, attributes)
    is_ours = KEY in attributes or PACKED in attributes
    key = attributes.get(KEY, "" if is_ours else message.ordering_key)
    is_lane = is_ours and _LANE.fullmatch(message.ordering_key) is not None
    partition = int(message.ordering_key) if is_lane else partition_of(key.encode(), partitions)
    at = published_at(message)
    if topic.endswith(DEAD_SUFFIX):
        headers = _as_dead_letter(topic, headers, at)
    return Received(topic, partition, offsets.next(partition, at), key, value, headers, at)


def _encoded(message: Outgoing, headers: Mapping[str, str], value: bytes, lane: str) -> Message:
    plain = {name: text for name, text in headers.items() if _is_attribute(name, text)}
    while len(plain) > _ATTRIBUTES - _OURS:
        plain.popitem()
    packed = {name: text for name, text in headers.items() if name not in plain}
    if message.key:
        plain[KEY] = message.key
    if packed or not message.key:
        plain[PACKED] = str(len(value))
        value += orjson.dumps(packed)
    return PubsubMessage(data=value, attributes=plain, ordering_key=lane)


def _is_attribute(name: str, text: str) -> bool:
    """Whether Pub/Sub takes this header as an attribute, and nobody takes it for one of ours."""
    return (
        0 < len(name.encode()) <= _NAME_BYTES
        and 0 < len(text.encode()) <= _VALUE_BYTES
        and not name.startswith("goog")
        and name not in (KEY, PACKED, FENCE)
    )


def _checked(encoded: Message, limit: int) -> Message:
    size = encoded.ByteSize()
    if size > limit:
        raise Rejected(f"a message of {size} bytes is too large: Pub/Sub takes {limit} at most")
    return encoded


def _unpacked(data: bytes, attributes: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
    headers = {name: text for name, text in attributes.items() if name not in (KEY, PACKED)}
    length = attributes.get(PACKED, "")
    if not length.isascii() or not length.isdecimal() or len(length) > 8:
        return data, headers
    try:
        packed = orjson.loads(data[int(length) :])
    except orjson.JSONDecodeError:
        return data, headers
    if not isinstance(packed, dict) or not all(isinstance(text, str) for text in packed.values()):
        return data, headers
    return data[: int(length)], {**headers, **packed}


def _as_dead_letter(topic: str, headers: dict[str, str], at: datetime) -> dict[str, str]:
    """Headers of a dead letter; one that Pub/Sub itself has put here says no reason of ours."""
    if envelope.DEAD_REASON in headers or _SOURCE_SUBSCRIPTION not in headers:
        return headers
    count, subscription = headers.get(_SOURCE_COUNT, "many"), headers[_SOURCE_SUBSCRIPTION]
    kept = {name: text for name, text in headers.items() if not name.startswith(_SOURCE)}
    return {
        **kept,
        envelope.DEAD_REASON: f"Pub/Sub gave up after {count} deliveries to {subscription}: nobody acknowledged it",
        envelope.DEAD_TOPIC: topic.removesuffix(DEAD_SUFFIX),
        envelope.DEAD_TIME: format_time(at),
    }
