"""Messages of ours as Kafka records, and what strangers' records look like to us."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from pipeline.broker.catalogue import MAX_MESSAGE_BYTES
from pipeline.broker.kafka_records import kafka_partition_of, received, record_of
from pipeline.broker.protocol import Outgoing
from pipeline.errors import Rejected
from schemas.topics import MACHINE_EVENTS


def incoming(**fields: Any) -> ConsumerRecord[bytes, bytes]:
    given = {"offset": 7, "timestamp": 0, "key": b"m", "value": b"v", "headers": (), **fields}
    return ConsumerRecord(
        topic="lab.machine.events",
        partition=3,
        timestamp_type=1,
        checksum=None,
        serialized_key_size=-1,
        serialized_value_size=-1,
        **given,
    )


@pytest.mark.parametrize(
    ("key", "partition"),
    # as Java's client numbers them; its own tests have the same keys
    [(b"21", 340), (b"foobar", 166), (b"a-little-bit-long-string", 112), (b"abc", 107)],
)
def test_keys_go_where_java_clients_send_them(key: bytes, partition: int) -> None:
    """So that a machine's messages lie in one partition, whoever writes them."""
    assert kafka_partition_of(key, 1000) == partition


def test_an_empty_value_is_null_on_compacted_topics_only() -> None:
    """Null deletes the key there; elsewhere it would be another message than was sent."""
    assert record_of(Outgoing(MACHINE_EVENTS, "m", b""), compacted=True).value is None
    assert record_of(Outgoing(MACHINE_EVENTS, "m", b""), compacted=False).value == b""


@pytest.mark.parametrize(
    "message",
    [
        Outgoing(MACHINE_EVENTS, "\ud800", b""),
        Outgoing(MACHINE_EVENTS, "m", b"", {"h": "\ud800"}),
        Outgoing(MACHINE_EVENTS, "m", b"", {"\ud800": "h"}),
    ],
)
def test_text_that_utf8_cannot_express_is_refused(message: Outgoing) -> None:
    with pytest.raises(Rejected, match="not valid text"):
        record_of(message, compacted=False)


def test_headers_count_when_a_message_is_too_large() -> None:
    message = Outgoing(MACHINE_EVENTS, "m", bytes(MAX_MESSAGE_BYTES - 100), {"h": "x" * 200})
    with pytest.raises(Rejected, match="too large"):
        record_of(message, compacted=False)


def test_records_without_key_value_or_readable_headers_are_taken() -> None:
    headers = (("odd", b"\xff"), ("null", None), ("twice", b"1"), ("twice", b"2"))
    (message,) = received(MACHINE_EVENTS, 3, [incoming(key=None, value=None, headers=headers)])
    assert (message.key, message.value, message.offset, message.partition) == ("", b"", 7, 3)
    assert dict(message.headers) == {"odd": "\ufffd", "null": "", "twice": "2"}


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (1_767_323_045_678, datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)),
        (-1, datetime(1970, 1, 1, tzinfo=UTC)),
        (2**62, datetime(9999, 12, 31, 23, 59, 59, 999000, UTC)),
    ],
)
def test_whatever_a_record_is_stamped_is_a_time(stamp: int, expected: datetime) -> None:
    """Where producers stamp the records, they may write anything."""
    (message,) = received(MACHINE_EVENTS, 3, [incoming(timestamp=stamp)])
    assert message.published_at == expected
