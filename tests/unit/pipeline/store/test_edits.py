from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.errors import Rejected
from pipeline.processor.pools import Pools
from pipeline.store.columns import only_heartbeat_differs
from pipeline.store.edits import checked, edit
from pipeline.store.history import lines
from schemas.changes import ChangeKind
from schemas.description import Description

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POOLS = Pools([("Skia", "^skia-")])


def beat(before: Description) -> Description:
    return before.model_copy(update={"battery": before.battery + 1})


def quarantine(before: Description) -> Description:
    return before.model_copy(update={"is_quarantined": True})


def recover(before: Description) -> Description:
    return before.model_copy(update={"recovering": "Too hot."})


def test_a_new_machine_is_created_and_what_differs_from_the_default_is_told() -> None:
    made = edit("skia-1", None, [quarantine], now=NOW, pools=POOLS)

    assert made.before is None
    assert made.kinds == (ChangeKind.CREATED, ChangeKind.QUARANTINE)
    assert made.after.row_version == 1


def test_a_machine_that_was_deleted_counts_on() -> None:
    assert edit("skia-1", None, [beat], now=NOW, pools=POOLS, last_version=7).after.row_version == 8


def test_kinds_are_the_union_of_the_steps_each_once() -> None:
    before = edit("skia-1", None, [beat], now=NOW, pools=POOLS).after

    made = edit("skia-1", before, [recover, beat, quarantine, recover], now=NOW, pools=POOLS)

    assert made.kinds == (ChangeKind.RECOVERY, ChangeKind.QUARANTINE)
    assert made.after.row_version == before.row_version + 1
    assert before.row_version == 1
    assert not before.is_recovering


def test_a_heartbeat_is_written_narrowly_and_anything_else_is_not() -> None:
    before = edit("skia-1", None, [beat], now=NOW, pools=POOLS).after

    beating = edit("skia-1", before, [beat], now=NOW, pools=POOLS).after
    recovering = edit("skia-1", before, [recover], now=NOW, pools=POOLS).after

    assert only_heartbeat_differs(before, beating)
    assert not only_heartbeat_differs(before, recovering)


def test_every_field_is_kept_by_an_edit_and_stays_in_the_order_of_the_wire() -> None:
    before = edit("skia-1", None, [beat], now=NOW, pools=POOLS).after

    after = edit("skia-1", before, [beat], now=NOW, pools=POOLS).after

    assert after == before.model_copy(update={"battery": 2, "row_version": 2})
    assert list(after.model_dump()) == list(before.model_dump())


def test_malformed_ids_are_rejected_before_anything_is_done() -> None:
    with pytest.raises(Rejected, match="a machine id has"):
        checked({"fine": [], "not fine": []})


def test_ids_of_history_lines_sort_by_time_version_and_step() -> None:
    made = edit("skia-1", None, [quarantine, recover], now=NOW, pools=POOLS)
    found = [
        line.id
        for now, version in ((NOW, 1), (NOW, 2), (NOW + timedelta(milliseconds=1), 1))
        for line in lines("skia-1", made.differences, now=now, version=version)
    ]

    assert len(found) > 6
    assert found == sorted(found)
    assert len(set(found)) == len(found)
    assert {len(each) for each in found} == {26}
