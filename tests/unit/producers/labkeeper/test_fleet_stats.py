from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.fleet_stats import FlappingMachine, FleetStats
from schemas.health import Health
from tests.unit.producers.labkeeper.command_line import labkeeper, labkeeper_beside
from tests.unit.producers.labkeeper.facade_double import FacadeDouble, problem

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def told(pool: str, **fields: Any) -> dict[str, Any]:
    """What the façade tells of a pool with ten machines."""
    stats = FleetStats(
        pool=pool,
        window_start=NOON,
        window_end=NOON + timedelta(minutes=1),
        machines=10,
        machines_by_state={Health.AVAILABLE: 7, Health.DOWN: 3},
        seconds_by_state={Health.AVAILABLE: 420, Health.DOWN: 180},
        availability_percent=70,
        changes=20,
        changes_per_second=0.333,
        recoveries=2,
        recoveries_per_hour=120,
        recovery_p50_s=90,
        recovery_p95_s=4000,
    )
    found: dict[str, Any] = json.loads(stats.model_copy(update=fields).model_dump_json())
    return found


async def test_each_pool_is_a_line(facade: FacadeDouble) -> None:
    facade.stats = [told("*"), told("Skia", machines=0, machines_by_state={}, availability_percent=None)]

    result = await labkeeper_beside("fleet", "stats", "--url", facade.url)

    assert result.code == 0
    heading, fleet, pool = (line.split() for line in result.lines)
    assert heading[:3] == ["POOL", "AVAILABLE", "MACHINES"]
    assert fleet[:4] == ["all", "70.0%", "10", "3"]
    assert "1 min / 1 h 6 min" in result.lines[1]
    assert pool[:3] == ["Skia", "-", "0"]
    assert result.err.startswith("As of 2026-03-01T12:01:00Z, ")


async def test_flapping_machines_are_named_as_far_as_there_is_room(facade: FacadeDouble) -> None:
    flapping = [FlappingMachine(id=f"rack4-{number:02}", changes=9) for number in range(5)]
    facade.stats = [told("*", flapping=flapping, flapping_total=25)]

    result = await labkeeper_beside("fleet", "stats", "--url", facade.url)

    assert result.lines[1].endswith("rack4-00, rack4-01, rack4-02 and 22 more")


async def test_over_time_each_step_is_a_line(facade: FacadeDouble) -> None:
    facade.stats = [told("Skia")]

    result = await labkeeper_beside(
        *("fleet", "stats", "--since", "24h", "--step", "1h", "--pool", "Skia"), "--url", facade.url
    )

    assert result.lines[0].startswith("FROM")
    assert result.lines[1].startswith("2026-03-01T12:00:00Z")
    (asked,) = facade.asked
    query = dict(asked.query)
    assert (asked.path, query["pool"], query["step"]) == ("/api/v1/fleet/stats/history", "Skia", "3600")
    assert query["since"].endswith("Z")


async def test_json_is_what_the_facade_sent(facade: FacadeDouble) -> None:
    facade.stats = [told("*") | {"FieldOfTomorrow": 1}]

    result = await labkeeper_beside("fleet", "stats", "-o", "json", "--url", facade.url)
    as_table = await labkeeper_beside("fleet", "stats", "--url", facade.url)

    assert result.json == {"stats": facade.stats}
    assert as_table.code == 0


async def test_before_the_first_window_the_person_learns_what_to_do(facade: FacadeDouble) -> None:
    result = await labkeeper_beside("fleet", "stats", "--url", facade.url)

    assert (result.code, result.out) == (0, "")
    assert "labkeeper fleet-stats" in result.err


async def test_an_unknown_pool_is_told_with_its_own_exit_code(facade: FacadeDouble) -> None:
    facade.refusal = lambda: problem(404, "nothing is known of a pool 'Nowhere'")

    result = await labkeeper_beside("fleet", "stats", "--pool", "Nowhere", "--url", facade.url)

    assert (result.code, result.out) == (3, "")
    assert "Nowhere" in result.err


async def test_statistics_that_make_no_sense_are_refused(facade: FacadeDouble) -> None:
    facade.stats = [{"pool": 5}]

    result = await labkeeper_beside("fleet", "stats", "--url", facade.url)

    assert result.code == 1
    assert "a window of statistics that makes no sense" in result.err


@pytest.mark.parametrize("words", [("--since", "yesterday"), ("--since", "0h"), ("--step", "1h")])
def test_a_span_that_is_none_is_a_usage_error(words: tuple[str, str]) -> None:
    assert labkeeper("fleet", "stats", *words).code == 2
