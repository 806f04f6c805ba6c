"""The Faust app's table, without a Kafka."""

from __future__ import annotations

from dataclasses import dataclass
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
    value: bytes

    @property
    def message(self) -> Any:
        return SimpleNamespace(key=self.key, value=self.value, partition=0)


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
