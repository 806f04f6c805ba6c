"""`labkeeper heal explain` shows every check, and says first which one decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.unit.producers.labkeeper.command_line import labkeeper_beside
from tests.unit.producers.labkeeper.facade_double import FacadeDouble, problem

CHECKS = [
    {"name": "policy", "passed": True, "text": "self-healing is on for its pool (Skia)"},
    {"name": "maintenance", "passed": False, "text": "in maintenance (jo@example.com)"},
]


def explanation(**fields: Any) -> dict[str, Any]:
    document = {
        "machine_id": "rack4-07",
        "state": "held",
        "reason": "in maintenance (jo@example.com)",
        "would_cycle": False,
        "checks": CHECKS,
    }
    return document | fields


async def test_each_check_is_a_line_below_what_they_come_to(facade: FacadeDouble) -> None:
    facade.refusal = lambda: web.json_response(explanation())

    result = await labkeeper_beside("heal", "explain", "rack4-07", "--url", facade.url)

    assert result.code == 0
    assert result.lines == [
        "rack4-07",
        "  held: in maintenance (jo@example.com)",
        "  ok policy       self-healing is on for its pool (Skia)",
        "  no maintenance  in maintenance (jo@example.com)",
    ]
    assert [asked.path for asked in facade.asked] == ["/api/v1/machines/rack4-07/healing"]


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"state": "cycling", "would_cycle": True}, "  a power cycle would be ordered now"),
        ({"state": None, "reason": "self-healing is off"}, "  nothing to do: self-healing is off"),
    ],
)
async def test_what_it_comes_to_is_said_first(
    facade: FacadeDouble, fields: dict[str, Any], line: str
) -> None:
    facade.refusal = lambda: web.json_response(explanation(**fields))

    result = await labkeeper_beside("heal", "explain", "rack4-07", "--url", facade.url)

    assert result.lines[1] == line


async def test_json_is_what_the_facade_sent(facade: FacadeDouble) -> None:
    facade.refusal = lambda: web.json_response(explanation(field_of_tomorrow=1))

    result = await labkeeper_beside("heal", "explain", "rack4-07", "-o", "json", "--url", facade.url)

    assert result.json == explanation(field_of_tomorrow=1)


async def test_a_machine_that_nobody_knows_is_exit_code_3(facade: FacadeDouble) -> None:
    facade.refusal = lambda: problem(404, "there is no machine 'rack4-99'")

    result = await labkeeper_beside("heal", "explain", "rack4-99", "--url", facade.url)

    assert (result.code, result.lines) == (3, [])


async def test_an_answer_that_is_no_explanation_is_said_to_be_none(facade: FacadeDouble) -> None:
    facade.refusal = lambda: web.json_response({"machine_id": "rack4-07"})

    result = await labkeeper_beside("heal", "explain", "rack4-07", "--url", facade.url)

    assert result.code == 1
    assert "an explanation that makes no sense" in result.err


async def test_a_policy_is_checked_and_told_pool_by_pool(tmp_path: Path) -> None:
    file = tmp_path / "heal.json5"
    file.write_text(
        "{pools: {'*': {attempts: 5}, Phones: {after: '20m', dry_run: true}, Slow: {enabled: false}}}"
    )

    result = await labkeeper_beside("heal", "check", str(file))

    assert result.code == 0
    assert "every other pool: self-healing is on" in result.lines
    phones = result.lines[result.lines.index("pool 'Phones': dry run, it is only said what would be done") :]
    assert [line.split() for line in phones[1:3]] == [["after", "20m"], ["attempts", "5"]]
    assert "pool 'Slow': self-healing is off" in result.lines
    told = await labkeeper_beside("heal", "check", str(file), "-o", "json")
    assert told.json["pools"]["Phones"]["after"] == "20m"


async def test_a_policy_with_mistakes_is_a_wrong_usage_that_names_them(tmp_path: Path) -> None:
    file = tmp_path / "heal.json5"
    file.write_text("{pools: {Phones: {afte: '20m'}}, lab: 3}")

    result = await labkeeper_beside("heal", "check", str(file))

    assert (result.code, result.out) == (2, "")
    assert "heal.json5: pool 'Phones': afte: there is no such key; lab: there is no such key" in result.err
