"""The Faust app's table, without a Kafka."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from consumers.fleet_stats.faust_table import RecordTable, make_app
from pipeline.statistics.record import Record, applied
from schemas.health import Health
from tests.unit.pipeline.statistics.lives import MINUTE, T0, seen


@dataclass
class FromChangelog:
    """What Faust hands to a table that recovers."""

    key: bytes
    value: bytes | None
    forgets: int = 0

    @property
    def message(self) -> Any:
        headers = [("version", str(self.forgets).encode())]
        return SimpleNamespace(key=self.key, value=self.value, partition=0, headers=headers)


def record(version: int, health: Health = Health.AVAILABLE) -> Record:
    """A machine's record after a change of this version."""
    made = applied(None, seen("a", version, 0, health), window_ms=MINUTE, floor=T0)
    assert made is not None
    return made


@pytest.fixture
async def table(tmp_path: Path) -> RecordTable:
    app = make_app("test", ["127.0.0.1:1"], {}, replication=1, folder=str(tmp_path))
    return RecordTable(app, partitions=8, window_ms=MINUTE)


async def test_a_table_recovers_the_records_of_its_changelog(table: RecordTable) -> None:
    table.apply_changelog_batch(
        [FromChangelog(b"a", record(1).to_json()), FromChangelog(b"b", record(5).to_json())]
    )

    assert table.records() == {"a": record(1), "b": record(5)}
    assert table.record("c") is None


async def test_what_a_sleeper_wrote_late_does_not_replace_what_is_newer(table: RecordTable) -> None:
    """Within one batch of the changelog, and across two."""
    old, new = record(5, Health.DOWN).to_json(), record(6).to_json()
    table.apply_changelog_batch(
        [FromChangelog(b"a", old), FromChangelog(b"a", new), FromChangelog(b"a", old)]
    )
    assert table.record("a") == record(6)

    table.apply_changelog_batch([FromChangelog(b"a", old)])
    assert table.record("a") == record(6)


DAY_MS = 86_400_000


def gone(version: int) -> Record:
    """A record of a machine that was deleted on the day before `T0`."""
    deleted = applied(record(version - 1), seen("a", version, 1, None), window_ms=MINUTE, floor=T0)
    assert deleted is not None
    return deleted


class Topic:
    """The changelog, as it is written."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send_soon(self, **message: Any) -> object:
        """Faust's."""
        self.sent.append(message)
        return object()


def later(version: int) -> Record:
    """The record of a machine that has a window told a day and an hour after `T0`."""
    return replace(record(version), floor=T0 + DAY_MS + 60 * MINUTE)


async def test_a_day_after_its_end_a_machine_is_forgotten_in_the_changelog_too(
    table: RecordTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = Topic()
    monkeypatch.setattr(RecordTable, "changelog_topic", topic)
    table.apply_changelog_batch(
        [FromChangelog(b"a", gone(2).to_json()), FromChangelog(b"b", record(1).to_json())]
    )
    table.forget_gone(table.records())
    assert topic.sent == []

    table.apply_changelog_batch([FromChangelog(b"b", later(2).to_json())])
    table.forget_gone(table.records())

    assert set(table.records()) == {"b"}
    (sent,) = topic.sent
    assert (sent["key"], sent["value"], sent["partition"]) == (b"a", None, 0)
    assert sent["headers"] == {"version": b"2"}
    assert len(table.take_unwritten()) == 1


async def test_a_table_that_recovers_forgets_what_was_forgotten(table: RecordTable) -> None:
    table.apply_changelog_batch([FromChangelog(b"a", gone(2).to_json())])
    table.apply_changelog_batch([FromChangelog(b"a", None, 2)])

    assert table.records() == {}


async def test_a_sleeper_cannot_forget_a_machine_that_has_come_back(table: RecordTable) -> None:
    table.apply_changelog_batch([FromChangelog(b"a", record(3).to_json()), FromChangelog(b"a", None, 2)])

    assert table.records() == {"a": record(3)}
