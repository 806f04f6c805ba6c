from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Rejected
from pipeline.sse import EventStream, ServerSentEvent

STREAM = (
    "\ufeffretry: 1500\n\n: a comment\n\n"
    'id: 1\nevent: machine\ndata: {"a":\ndata: 1}\n\n'
    "data:no space\r\nunknown: field\r\n\r\n"
    "id: 2\rdata: ünï\r\r"
    "event: nothing\n\n"
    "data: never finished\n"
).encode()
EVENTS = [
    ServerSentEvent("machine", '{"a":\n1}', "1"),
    ServerSentEvent("message", "no space", "1"),
    ServerSentEvent("message", "ünï", "2"),
]


@given(st.lists(st.integers(0, len(STREAM))))
def test_events_are_the_same_however_the_stream_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    stream = EventStream()

    found = [event for start, end in pairwise(places) for event in stream.feed(STREAM[start:end])]

    assert found == EVENTS
    assert stream.last_id == "2"
    assert stream.retry_seconds == 1.5


def test_an_id_from_before_the_reconnect_stays_until_a_new_one_comes() -> None:
    stream = EventStream(last_id="41")

    [event] = stream.feed(b"data: x\n\n")

    assert event.id == "41"


def test_senseless_retries_and_ids_are_ignored() -> None:
    stream = EventStream(last_id="7")

    assert list(stream.feed("retry: soon\nretry: ²\nid: 8\0\n\n".encode())) == []
    assert (stream.retry_seconds, stream.last_id) == (None, "7")


def test_a_server_cannot_keep_us_waiting_for_hours() -> None:
    stream = EventStream()

    assert list(stream.feed(b"retry: 99999999999999999999\n")) == []
    assert stream.retry_seconds == 60


def test_an_event_without_end_is_refused() -> None:
    for endless in (b"x" * 300, b"data: xxxxxxx\n" * 30):
        with pytest.raises(Rejected, match="too large"):
            _read_all(EventStream(longest_event=1000), [endless] * 10)


def _read_all(stream: EventStream, chunks: list[bytes]) -> None:
    for chunk in chunks:
        list(stream.feed(chunk))
