"""The rules that hold for every row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.processor.normalize import normalize, quarantine_message
from pipeline.processor.pools import Pools
from schemas.description import Annotation, Description
from tests.unit.pipeline.processor.samples import STARTED, description

POOLS = Pools([("SkiaInternal", "^skia-i-"), ("Skia", "^skia-")])
PRECISE = datetime(2026, 1, 2, 3, 4, 5, 678_999, tzinfo=UTC)
CUT = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
FILLED = {"id": ["skia-1"], "task_type": ["swarming"], "pool": ["Skia"]}


def normal(before: Description, machine_id: str = "skia-1") -> Description:
    return normalize(before, POOLS, machine_id)


def dimensions_after(dimensions: Any, **fields: Any) -> Any:
    return normal(description(dimensions=dimensions, **fields)).dimensions


def test_what_is_well_already_is_the_very_same_object() -> None:
    before = description(dimensions=dict(FILLED), supplied_dimensions={})
    assert normal(before) is before


def test_only_what_changes_is_replaced() -> None:
    before = description(dimensions=dict(FILLED), supplied_dimensions={"a": ["b"]}, last_updated=PRECISE)
    result = normal(before)
    assert result.dimensions is before.dimensions
    assert result.supplied_dimensions is before.supplied_dimensions
    assert result.last_updated == CUT


def test_nothing_handed_in_is_changed() -> None:
    dimensions: dict[str, list[str] | None] = {"os": [], "quarantined": ["x"]}
    before = description(dimensions=dimensions)
    normal(before)
    assert dimensions == {"os": [], "quarantined": ["x"]}


@pytest.mark.parametrize("empty", [[], None])
def test_empty_dimensions_are_dropped(empty: list[str] | None) -> None:
    result = normal(
        description(
            dimensions={**FILLED, "os": empty, "cpu": [""]}, supplied_dimensions={"x": empty, "y": ["z"]}
        )
    )
    assert result.dimensions == {**FILLED, "cpu": [""]}
    assert result.supplied_dimensions == {"y": ["z"]}


def test_missing_maps_become_empty_ones() -> None:
    result = normal(Description())
    assert result.dimensions == FILLED
    assert result.supplied_dimensions == {}


@pytest.mark.parametrize("ids", [{}, {"id": []}, {"id": None}])
def test_a_missing_id_is_filled_in(ids: dict[str, Any]) -> None:
    assert dimensions_after(ids) == FILLED


def test_an_id_that_is_there_stays_and_its_last_value_decides_on_the_pool() -> None:
    assert dimensions_after({"id": ["other", "skia-i-7"]}) == {
        "id": ["other", "skia-i-7"],
        "task_type": ["swarming"],
        "pool": ["SkiaInternal"],
    }


def test_a_task_type_that_is_there_stays() -> None:
    assert dimensions_after({**FILLED, "task_type": ["sktask"]})["task_type"] == ["sktask"]


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        (["SkiaInternal"], ["SkiaInternal"]),
        (["Unknown"], ["Skia"]),
        (["Skia", "SkiaInternal"], ["Skia"]),
        ([], ["Skia"]),
    ],
)
def test_a_pool_that_is_not_valid_is_set_by_the_configuration(pool: list[str], expected: list[str]) -> None:
    assert dimensions_after({**FILLED, "pool": pool})["pool"] == expected


def test_a_machine_that_no_pool_takes() -> None:
    before = normal(description(dimensions={}), "other-1")
    assert before.dimension("pool") == ["PoolNotFound"]
    assert normal(before, "other-1").dimensions is before.dimensions


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, ""),
        ({"maintenance_mode": "fred 2021-09-01T10:00:00Z"}, "Maintenance: fred 2021-09-01T10:00:00Z"),
        ({"is_quarantined": True}, "Forced Quarantine"),
        ({"recovering": "Too hot."}, "Recovering: Too hot."),
        (
            {"maintenance_mode": "fred", "is_quarantined": True, "recovering": "Too hot."},
            "Maintenance: fred, Forced Quarantine, Recovering: Too hot.",
        ),
    ],
)
def test_the_quarantined_dimension_says_why(fields: dict[str, object], message: str) -> None:
    before = description(dimensions={**FILLED, "quarantined": ["stale"]}, **fields)
    assert quarantine_message(before) == message
    result = normal(before)
    assert result.dimensions == {**FILLED, **({"quarantined": [message]} if message else {})}
    assert normal(result) is result


def test_times_are_cut_to_milliseconds_except_in_texts() -> None:
    note = Annotation(message="m", user="u", timestamp=PRECISE)
    result = normal(
        description(
            last_updated=PRECISE,
            recovery_start=PRECISE,
            task_started=PRECISE,
            down_since=PRECISE,
            monitor_start=PRECISE,
            annotation=note,
            note=note,
        )
    )
    assert result.last_updated == CUT
    assert result.recovery_start == CUT
    assert result.task_started == CUT
    assert result.down_since == CUT
    assert result.monitor_start == PRECISE
    assert result.annotation.timestamp == PRECISE
    assert result.note.timestamp == PRECISE


def test_a_new_machine_needs_only_task_type_and_pool() -> None:
    before = Description.new("skia-1", now=STARTED)
    assert normal(before) == before.model_copy(update={"dimensions": FILLED, "supplied_dimensions": {}})
