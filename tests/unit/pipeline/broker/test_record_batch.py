"""Blocks of records: what goes in comes out."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from pipeline.broker.protocol import Outgoing
from pipeline.broker.record_batch import Place, decode, encode, record_of

PLACE = Place("machine.events", 3, 100, datetime(2024, 1, 1, tzinfo=UTC))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MESSAGES = st.lists(
    st.builds(
        Outgoing,
        topic=st.just(PLACE.topic),
        key=TEXT,
        value=st.binary(max_size=300),
        headers=st.dictionaries(TEXT, TEXT, max_size=3),
    ),
    min_size=1,
    max_size=20,
)


def block_of(messages: list[Outgoing]) -> bytes:
    return encode([record_of(message) for message in messages])


@given(messages=MESSAGES, skip=st.integers(0, 20))
def test_every_message_survives_the_block(messages: list[Outgoing], skip: int) -> None:
    received = decode(memoryview(block_of(messages)), len(messages), PLACE, skip=skip)
    assert [
        Outgoing(message.topic, message.key, message.value, dict(message.headers)) for message in received
    ] == messages[skip:]
    assert [message.offset for message in received] == list(range(100, 100 + len(messages)))[skip:]
    assert all((message.partition, message.published_at) == (3, PLACE.published_at) for message in received)


def test_alike_messages_take_little_room() -> None:
    messages = [Outgoing(PLACE.topic, f"m{number}", b'{"state": "fine"}' * 50) for number in range(100)]
    assert len(block_of(messages)) < 0.05 * sum(len(message.value) for message in messages)


def test_noise_is_not_blown_up() -> None:
    noise = os.urandom(10_000)
    assert len(block_of([Outgoing(PLACE.topic, "m", noise)])) < len(noise) + 50


def test_headers_behave_like_a_mapping() -> None:
    headers = {"ce_id": "1", "ce_type": "event"}
    (message,) = decode(memoryview(block_of([Outgoing(PLACE.topic, "m", b"", headers)])), 1, PLACE)
    assert message.headers == headers
    assert message.headers["ce_id"] == "1"
    assert message.headers.get("missing") is None
    assert len(message.headers) == 2
    assert repr(message.headers) == repr(headers)


def test_what_has_no_headers_has_an_empty_mapping() -> None:
    (message,) = decode(memoryview(block_of([Outgoing(PLACE.topic, "m", b"")])), 1, PLACE)
    assert message.headers == {}
