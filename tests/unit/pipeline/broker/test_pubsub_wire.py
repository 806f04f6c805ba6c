"""How messages look on Pub/Sub."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.broker.partitions import partition_of
from pipeline.broker.protocol import Outgoing
from pipeline.broker.pubsub_wire import (
    CUT,
    FENCE,
    KEY,
    MESSAGE_BYTES,
    PACKED,
    Names,
    Offsets,
    PubsubMessage,
    decode,
    encode,
    fence,
    published_at,
    time_of,
    whole_millisecond,
)
from pipeline.errors import Rejected
from schemas import envelope
from schemas.topics import MACHINE_EVENTS, dead_letters_of

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def stamped(message: PubsubMessage, at: datetime = NOW) -> PubsubMessage:
    message.publish_time.FromDatetime(at)
    return message


def returned(message: Outgoing, partitions: int = 8) -> Outgoing:
    found = decode(message.topic, stamped(encode(message, partitions)), partitions, Offsets())
    return Outgoing(found.topic, found.key, found.value, dict(found.headers))


@given(TEXT, st.binary(), st.dictionaries(TEXT, TEXT, max_size=5))
def test_any_message_comes_back_as_it_went(key: str, value: bytes, headers: dict[str, str]) -> None:
    message = Outgoing(MACHINE_EVENTS, key, value, headers)
    assert returned(message) == message


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"empty": ""}, id="empty value"),
        pytest.param({"": "x"}, id="empty name"),
        pytest.param({"long": "ä" * 600}, id="long value"),
        pytest.param({"n" * 257: "x"}, id="long name"),
        pytest.param({"google": "x"}, id="reserved by Google"),
        pytest.param({KEY: "someone-else", FENCE: "x", PACKED: "0"}, id="reserved by us"),
        pytest.param({f"h{number}": "x" for number in range(300)}, id="too many"),
    ],
)
def test_headers_that_pubsub_does_not_take_travel_with_the_value(headers: dict[str, str]) -> None:
    message = Outgoing(MACHINE_EVENTS, "rack4-07", b"{}", headers)
    encoded = encode(message, 8)
    assert len(encoded.attributes) <= 100
    for name, text in encoded.attributes.items():
        assert 0 < len(name.encode()) <= 256
        assert 0 < len(text.encode()) <= 1024
        assert not name.startswith("goog")
    assert FENCE not in encoded.attributes
    assert encoded.attributes[KEY] == "rack4-07"
    assert returned(message) == message


def test_an_ordinary_message_is_bare_json_for_everybody() -> None:
    encoded = encode(Outgoing(MACHINE_EVENTS, "rack4-07", b'{"a":1}', {"ce_id": "1"}), 8)
    assert encoded.data == b'{"a":1}'
    assert dict(encoded.attributes) == {"ce_id": "1", KEY: "rack4-07"}
    assert encoded.ordering_key == str(partition_of(b"rack4-07", 8))


def test_a_deletion_without_value_and_headers_still_has_something_in_it() -> None:
    encoded = encode(Outgoing(MACHINE_EVENTS, "rack4-07", b""), 8)
    assert encoded.attributes
    assert returned(Outgoing(MACHINE_EVENTS, "", b"")) == Outgoing(MACHINE_EVENTS, "", b"")


def test_what_cannot_be_taken_is_refused_in_words() -> None:
    with pytest.raises(Rejected, match="too large: Pub/Sub takes"):
        encode(Outgoing(MACHINE_EVENTS, "m", bytes(MESSAGE_BYTES)), 8)
    with pytest.raises(Rejected, match="key of a message is too long: 2000 bytes"):
        encode(Outgoing(MACHINE_EVENTS, "m" * 2000, b""), 8)
    with pytest.raises(Rejected, match="not valid text"):
        encode(Outgoing(MACHINE_EVENTS, "\ud800", b""), 8)


def test_a_dead_letter_that_is_too_large_is_cut_and_says_so() -> None:
    topic = dead_letters_of(MACHINE_EVENTS)
    letter = Outgoing(topic, "m", bytes(MESSAGE_BYTES), {envelope.DEAD_REASON: "x" * 2000})
    encoded = encode(letter, 1)
    assert encoded.ByteSize() <= MESSAGE_BYTES
    found = decode(topic, stamped(encoded), 1, Offsets())
    assert found.headers == {**letter.headers, CUT: str(MESSAGE_BYTES)}
    assert len(found.value) > MESSAGE_BYTES - 100_000


@pytest.mark.parametrize("length", ["", "x", "-1", "99999999", "123456789", "1", "²"])
def test_a_lie_about_packed_headers_changes_nothing(length: str) -> None:
    message = PubsubMessage(data=b'{"a": 1}', attributes={PACKED: length, "h": "x"})
    found = decode(MACHINE_EVENTS, stamped(message), 8, Offsets())
    assert (found.value, found.headers) == (b'{"a": 1}', {"h": "x"})


def test_packed_headers_must_be_texts() -> None:
    for packed in (b"[]", b'{"h": 1}'):
        message = PubsubMessage(data=b"value" + packed, attributes={PACKED: "5"})
        assert decode(MACHINE_EVENTS, stamped(message), 8, Offsets()).value == b"value" + packed


def test_another_programs_ordering_key_is_the_machine() -> None:
    message = stamped(PubsubMessage(data=b"1", ordering_key="7"))
    found = decode(MACHINE_EVENTS, message, 8, Offsets())
    assert (found.key, found.partition) == ("7", partition_of(b"7", 8))


def test_offsets_count_up_and_are_the_same_for_whoever_begins_with_the_millisecond() -> None:
    times = [
        NOW - timedelta(milliseconds=5),
        *([NOW] * 150),
        NOW + timedelta(microseconds=1),
        NOW + timedelta(seconds=1),
    ]
    whole, later = Offsets(), Offsets()
    numbers = [whole.next(0, at) for at in times]
    assert numbers == sorted(set(numbers))
    assert [later.next(0, at) for at in times[1:]] == numbers[1:]
    assert max(numbers) < 10**18  # as long as the name of a dead letter may be
    for number, at in zip(numbers, times, strict=True):
        assert time_of(number) <= at < time_of(number) + timedelta(milliseconds=2)
    assert whole_millisecond(NOW) == NOW.replace(microsecond=123_000)


def test_partitions_are_numbered_apart() -> None:
    offsets = Offsets()
    assert offsets.next(0, NOW) == offsets.next(1, NOW) < offsets.next(0, NOW)


def test_a_message_that_comes_again_gets_a_new_number() -> None:
    offsets = Offsets()
    first = offsets.next(0, NOW)
    offsets.next(0, NOW + timedelta(seconds=1))
    assert offsets.next(0, NOW) > first


def test_what_pubsub_gave_up_says_why() -> None:
    attributes = {
        KEY: "m",
        "ce_id": "1",
        "CloudPubSubDeadLetterSourceDeliveryCount": "100",
        "CloudPubSubDeadLetterSourceSubscription": "labkeeper.machine.events.description-writer",
        "CloudPubSubDeadLetterSourceSubscriptionProject": "lab",
    }
    message = stamped(PubsubMessage(data=b"1", attributes=attributes, ordering_key="5"))
    found = decode(dead_letters_of(MACHINE_EVENTS), message, 1, Offsets())
    assert found.partition == 5  # its order is that of the key it had
    assert found.headers == {
        "ce_id": "1",
        envelope.DEAD_REASON: (
            "Pub/Sub gave up after 100 deliveries to labkeeper.machine.events.description-writer: nobody acknowledged it"
        ),
        envelope.DEAD_TOPIC: MACHINE_EVENTS,
        envelope.DEAD_TIME: "2026-03-01T12:00:00.123456Z",
    }
    assert decode(MACHINE_EVENTS, message, 8, Offsets()).headers["ce_id"] == "1"
    assert envelope.DEAD_REASON not in decode(MACHINE_EVENTS, message, 8, Offsets()).headers


def test_a_fence_says_whose_it_is_and_where() -> None:
    message = fence("abc", 3)
    assert (message.attributes[FENCE], message.ordering_key) == ("abc", "3")
    assert published_at(stamped(message)) == NOW


def test_names_are_as_the_documentation_wants_them() -> None:
    names = Names("lab")
    assert names.topic("labkeeper.machine.events") == "projects/lab/topics/labkeeper.machine.events"
    assert names.subscription("labkeeper.x", "g") == "projects/lab/subscriptions/labkeeper.x.g"
    assert names.snapshot("labkeeper.x", "s") == "projects/lab/snapshots/labkeeper.x.s"
