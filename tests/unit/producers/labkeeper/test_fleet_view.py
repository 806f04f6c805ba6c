from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.command import CommandFailed
from pipeline.sse import ServerSentEvent
from producers.labkeeper.fleet_view import FleetView, News, NewsKind
from tests.unit.producers.labkeeper.fleet import T0, machine


def told(view: FleetView, kind: str, data: Any = None) -> list[tuple[NewsKind, str]]:
    return [(news.kind, news.machine_id) for news in applied(view, kind, data)]


def applied(view: FleetView, kind: str, data: Any = None) -> list[News]:
    return list(view.apply(ServerSentEvent(kind, json.dumps(data or {}), "1")))


def synced(*machines: dict[str, Any]) -> FleetView:
    view = FleetView()
    applied(view, "reset")
    for one in machines:
        applied(view, "machine", one)
    applied(view, "synced", {"machines": len(machines)})
    return view


def test_machines_that_were_there_before_us_are_present_and_later_ones_appear() -> None:
    view = FleetView()

    assert told(view, "reset") == []
    assert told(view, "machine", machine("a")) == [(NewsKind.PRESENT, "a")]
    assert told(view, "synced", {"machines": 1}) == []
    assert told(view, "machine", machine("b")) == [(NewsKind.APPEARED, "b")]
    assert len(view) == 2


def test_a_change_says_what_changed() -> None:
    view = synced(machine("a"))

    [news] = applied(view, "machine", machine("a", version=2, recovering="Too hot."))

    assert news.kind is NewsKind.CHANGED
    assert [(item.kind, item.before, item.after) for item in news.differences] == [
        ("recovery", "", "Too hot.")
    ]


def test_a_newer_row_in_which_nothing_changed_is_a_heartbeat() -> None:
    assert told(synced(machine("a")), "machine", machine("a", version=2)) == [(NewsKind.HEARTBEAT, "a")]


def test_old_and_repeated_rows_say_nothing() -> None:
    view = synced(machine("a", version=5))

    assert told(view, "machine", machine("a", version=5)) == []
    assert told(view, "machine", machine("a", version=4, down_since=T0)) == []


def test_after_a_reset_only_what_was_missed_is_told() -> None:
    view = synced(machine("same"), machine("changed"), machine("gone"))

    told(view, "reset")
    found = [
        *told(view, "machine", machine("same")),
        *told(view, "machine", machine("changed", version=2, down_since=T0)),
        *told(view, "machine", machine("new")),
        *told(view, "synced", {"machines": 3}),
    ]

    assert found == [(NewsKind.CHANGED, "changed"), (NewsKind.APPEARED, "new"), (NewsKind.DELETED, "gone")]


def test_a_database_that_was_set_back_is_believed_after_a_reset() -> None:
    view = synced(machine("a", version=9))

    told(view, "reset")

    assert told(view, "machine", machine("a", version=3, down_since=T0)) == [(NewsKind.CHANGED, "a")]


def test_a_machine_is_deleted_once() -> None:
    view = synced(machine("a"))

    assert told(view, "deleted", {"id": "a"}) == [(NewsKind.DELETED, "a")]
    assert told(view, "deleted", {"id": "a"}) == []


def test_only_the_machines_asked_for_are_looked_at() -> None:
    view = FleetView(["a"])

    assert told(view, "machine", machine("b")) == []
    assert told(view, "machine", machine("a")) == [(NewsKind.PRESENT, "a")]
    assert told(view, "deleted", {"id": "b"}) == []


def test_events_of_a_kind_that_we_do_not_know_say_nothing() -> None:
    assert told(synced(), "weather", {"sun": True}) == []


@pytest.mark.parametrize("data", ["{", "[1]", "[" * 100_000])
def test_a_stream_of_something_else_is_refused(data: str) -> None:
    with pytest.raises(CommandFailed, match="check --url"):
        list(FleetView().apply(ServerSentEvent("machine", data, "1")))
