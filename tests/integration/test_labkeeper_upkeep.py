"""`labkeeper db` and `labkeeper dead` against a real database and the broker in it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.servers.child import free_ports
from pipeline.broker.deadletter import DeadLetters
from pipeline.broker.protocol import Received
from pipeline.clock import ManualClock
from pipeline.factory import open_broker
from pipeline.settings import Connections
from schemas import envelope
from schemas.topics import MACHINE_EVENTS
from tests.unit.producers.labkeeper.command_line import Result, labkeeper_beside

pytestmark = pytest.mark.integration

T0 = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


async def _run(database_url: str, *arguments: str, answer: str = "") -> Result:
    return await labkeeper_beside(*arguments, answer=answer, LABKEEPER_DATABASE_URL=database_url)


async def _park(database_url: str, *letters: tuple[str, bytes, str]) -> None:
    async with open_broker(Connections(database_url)) as broker:
        rejected = [
            (Received(MACHINE_EVENTS, 1, offset, key, value, {envelope.ID: f"id-{offset}"}, T0), reason)
            for offset, (key, value, reason) in enumerate(letters)
        ]
        await DeadLetters(broker, ManualClock(T0)).put(rejected)


async def _events(database_url: str) -> list[Received]:
    async with open_broker(Connections(database_url)) as broker:
        return list(await broker.fetch(MACHINE_EVENTS))


async def test_a_new_database_is_prepared_once(database_url: str) -> None:
    before = await _run(database_url, "db", "status")
    first = await _run(database_url, "db", "migrate")
    second = await _run(database_url, "db", "migrate")
    after = await _run(database_url, "db", "status", "-o", "json")

    assert before.code == 1
    assert "pending" in before.out
    assert "run `labkeeper db migrate`" in before.err
    assert (first.code, second.code, after.code) == (0, 0, 0)
    assert first.lines[0].endswith(": applied")
    assert (second.out, second.err) == ("", "There is nothing to do.\n")
    assert all(migration["applied_at"] for migration in after.json)
    assert len(after.json) == len(first.lines)


async def test_a_database_that_is_away_is_not_waited_for_to_tell_its_state() -> None:
    (port,) = free_ports(1)
    began = time.monotonic()
    result = await _run(f"postgresql://nobody@127.0.0.1:{port}/nothing", "db", "status")

    assert (result.code, result.out) == (7, "")
    assert "Connection refused" in result.err
    assert time.monotonic() - began < 25  # 30 s is the rule


async def test_a_new_version_is_prepared_for_while_the_old_one_runs(database_url: str) -> None:
    assert (await _run(database_url, "db", "migrate", "--phase", "pre")).code == 0
    assert (await _run(database_url, "db", "migrate", "--phase", "never")).code == 2


async def test_dead_letters_are_listed_shown_and_filtered(database_url: str) -> None:
    empty = await _run(database_url, "dead", "list")
    await _park(
        database_url,
        ("rack4-07", b'{"host":{"name":1}}', "host.name: not text"),
        ("rack4-08", b"\x00\x1b[2J", "body: not JSON"),
    )

    table = await _run(database_url, "dead", "list")
    filtered = await _run(database_url, "dead", "list", "--reason", "JSON", "-o", "name")
    of_machine = await _run(database_url, "dead", "list", "--machine", "rack4-07", "-o", "json")
    document = await _run(database_url, "dead", "show", "0:0")
    bytes_ = await _run(database_url, "dead", "show", "0:1")
    raw = await _run(database_url, "dead", "show", "0:1", "--raw")
    missing = await _run(database_url, "dead", "show", "0:2")

    assert (empty.code, empty.err) == (0, "No open dead letters.\n")
    assert table.lines[1].split() == ["0:0", "2026-01-31T09:30:00Z", "rack4-07", "host.name:", "not", "text"]
    assert filtered.lines == ["0:1"]
    [found] = of_machine.json
    assert (found["letter"], found["source"], found["handled"]) == ("0:0", "machine.events/1:0", None)
    assert "reason     host.name: not text" in document.lines
    assert f"    {envelope.ID}: id-0" in document.lines
    assert document.lines[-5:] == ["    {", '      "host": {', '        "name": 1', "      }", "    }"]
    assert "\\x00\\x1b[2J" in bytes_.out
    assert raw.raw == b"\x00\x1b[2J"
    assert missing.code == 3


async def test_a_replayed_letter_is_published_again_and_no_longer_open(database_url: str) -> None:
    await _park(database_url, ("a", b"1", "bad"), ("b", b"2", "worse"), ("a", b"3", "bad"))

    some = await _run(database_url, "dead", "replay", "--all-open", "--reason", "bad")
    again = await _run(database_url, "dead", "replay", "0:0")
    insisted = await _run(database_url, "dead", "replay", "0:0", "--again")
    left = await _run(database_url, "dead", "list", "-o", "name")
    everything = await _run(database_url, "dead", "list", "--all", "-o", "json")

    assert some.lines == ["0:0: replayed", "0:2: replayed"]
    assert again.code == 5
    assert "0:0 was replayed by" in again.err
    assert insisted.code == 0
    assert left.lines == ["0:1"]
    assert [letter["handled"] and letter["handled"]["outcome"] for letter in everything.json] == [
        "replayed",
        None,
        "replayed",
    ]
    events = await _events(database_url)
    assert [(event.key, event.value) for event in events] == [("a", b"1"), ("a", b"3"), ("a", b"1")]
    assert dict(events[0].headers) == {envelope.ID: "id-0"}


async def test_letters_are_given_up_only_after_a_yes(database_url: str) -> None:
    await _park(database_url, ("a", b"1", "bad"), ("b", b"2", "bad"))

    refused = await _run(database_url, "dead", "drop", "0:0", answer="n\n")
    still = await _run(database_url, "dead", "list", "-o", "name")
    agreed = await _run(database_url, "dead", "drop", "0:0", answer="y\n")
    rest = await _run(database_url, "dead", "drop", "--all-open", "--yes")
    nothing = await _run(database_url, "dead", "drop", "--all-open", "--yes")

    assert (refused.code, still.lines) == (1, ["0:0", "0:1"])
    assert "Give up 1 dead letter?" in refused.err
    assert agreed.lines[-1] == "0:0: dropped"
    assert rest.lines == ["0:1: dropped"]
    assert (nothing.code, nothing.err) == (0, "No such dead letters are open.\n")
    assert await _events(database_url) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("replay",), "Name the letters, or give --all-open."),
        (("drop", "0:1", "--all-open"), "Name the letters, or give --all-open."),
        (("replay", "0:1", "--reason", "x"), "not among names"),
        (("show", "17"), "names no dead letter"),
    ],
)
async def test_an_unclear_wish_is_a_usage_error(arguments: tuple[str, ...], told: str) -> None:
    result = await _run("postgresql://127.0.0.1:1/nowhere", "dead", *arguments)

    assert result.code == 2
    assert told in result.err


async def test_without_a_database_there_is_one_clear_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("producers.labkeeper.home_lab.default_folder", lambda: tmp_path / "usual")
    unknown = await labkeeper_beside("dead", "list")
    away = await _run("postgresql://127.0.0.1:1/nowhere", "dead", "list")

    assert unknown.code == 7
    assert "no lab runs in .labkeeper or" in unknown.err
    assert "--database-url" in unknown.err
    assert away.code == 7
    assert len(away.err.splitlines()) == 1
