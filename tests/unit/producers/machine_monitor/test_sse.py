from __future__ import annotations

from producers.machine_monitor.sse import Message, SseReader


def messages(text: str) -> list[Message]:
    reader = SseReader()
    return [message for line in text.split("\n") if (message := reader.feed(line))]


def test_a_message_has_an_id_and_data() -> None:
    assert messages("id: 4\ndata: update\n\n") == [Message("update", "4")]


def test_lines_of_data_are_joined() -> None:
    assert messages("data: a\ndata:b\n\n") == [Message("a\nb", "")]


def test_the_last_id_holds_for_later_messages() -> None:
    assert messages("id: 4\ndata: a\n\ndata: b\n\n") == [Message("a", "4"), Message("b", "4")]


def test_heartbeats_and_unknown_fields_are_no_messages() -> None:
    assert messages(": heartbeat\n\nevent: x\nretry: 5\n\nid: 9\n\n") == []


def test_an_unfinished_message_is_dropped() -> None:
    assert messages("data: a") == []


def test_an_id_with_a_nul_is_ignored() -> None:
    assert messages("id: 4\ndata: a\n\nid: \0\ndata: b\n\n")[1].id == "4"
