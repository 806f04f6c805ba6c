"""Silences: who wants to hear nothing about which machines, and until when."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.ids import new_ulid
from tests.unit.consumers.facade.lab import Lab, running
from tests.unit.consumers.facade.test_power import ask

SILENCES = "/api/v1/silences"


async def listed(lab: Lab, query: str = "") -> list[Any]:
    status, answer, _ = await ask(lab, "GET", SILENCES + query)
    assert status == 200
    silences: list[Any] = answer["silences"]
    return silences


async def test_a_silence_lasts_until_its_end(lab: Lab) -> None:
    wish = {"machine": "rack4-*", "reason": "new switch", "ends_in_s": 3600}
    status, silence, _ = await ask(lab, "POST", SILENCES, wish)
    assert status == 201
    assert (silence["owner"], silence["machine"], silence["pool"]) == ("local", "rack4-*", "*")
    assert (silence["starts_at"], silence["ends_at"]) == ("2026-03-01T12:00:00Z", "2026-03-01T13:00:00Z")
    assert await listed(lab) == [silence]
    lab.clock.advance(timedelta(hours=1))
    assert await listed(lab) == []
    assert await listed(lab, "?all=1") == [silence]


async def test_a_silence_can_be_ended_once(lab: Lab) -> None:
    wish = {"pool": "Skia", "reason": "x", "ends_at": "2026-03-02T00:00:00+01:00"}
    _, silence, _ = await ask(lab, "POST", SILENCES, wish)
    assert silence["ends_at"] == "2026-03-01T23:00:00Z"
    path = f"{SILENCES}/{silence['id']}"
    assert (await ask(lab, "DELETE", path))[:2] == (204, None)
    assert await listed(lab) == []
    status, problem, _ = await ask(lab, "DELETE", path)
    assert (status, problem["title"]) == (404, "Not Found")
    assert (await ask(lab, "DELETE", f"{SILENCES}/{new_ulid()}"))[0] == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": "\x00"}, "reason"),
        ({"machine": ""}, "machine"),
        ({"pool": "x" * 201}, "pool"),
        ({"ends_in_s": None}, "ends_in_s"),
        ({"ends_at": "2026-03-02T00:00:00Z"}, "ends_in_s"),
        ({"ends_in_s": 0}, "ends_in_s"),
        ({"ends_in_s": 366 * 86_400}, "ends_in_s"),
        ({"ends_in_s": None, "ends_at": "2026-03-01T12:00:00Z"}, "ends_at"),
        ({"ends_in_s": None, "ends_at": "2027-03-02T12:00:00Z"}, "ends_at"),
        ({"ends_in_s": None, "ends_at": "soon"}, "ends_at"),
        ({"owner": "eve"}, "owner"),
    ],
)
async def test_a_silence_that_makes_no_sense_is_refused(lab: Lab, change: dict[str, Any], field: str) -> None:
    wish = {"reason": "x", "ends_in_s": 60, **change}
    status, problem, _ = await ask(lab, "POST", SILENCES, wish)
    assert (status, problem["errors"][0]["field"]) == (422, field)
    assert await listed(lab, "?all=1") == []


async def test_a_silence_is_its_owners(
    tokens: tuple[Path, dict[str, dict[str, str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, headers = tokens
    async with running(tokens=path, headers=headers["operator"]) as lab:
        _, silence, _ = await ask(lab, "POST", SILENCES, {"reason": "x", "ends_in_s": 60})
    assert silence["owner"] == "olga@example.org"
    assert "action=add-silence" in capsys.readouterr().out
