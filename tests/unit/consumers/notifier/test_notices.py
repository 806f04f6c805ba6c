"""What is worth telling."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from consumers.notifier.notices import NoticeKind, notices_of
from schemas.changes import ChangeKind
from schemas.description import Description
from schemas.healing import HealingState, healing_text
from tests.unit.consumers.notifier.lab import NOON, change, machine


def told(
    kind: ChangeKind, description: Description, in_error: set[str] | None = None
) -> list[tuple[str, str]]:
    notices = notices_of(change(kind, description), at=NOON, in_error=set() if in_error is None else in_error)
    assert all(each.machine_id == "m" and each.pools == ("Lab",) and each.at == NOON for each in notices)
    return [(each.kind.value, each.text) for each in notices]


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        (
            ChangeKind.DOWN,
            {"down_since": NOON + timedelta(milliseconds=587)},
            [("down", "silent since 2026-03-01T12:00:00Z")],
        ),
        (ChangeKind.DOWN, {}, [("back", "")]),
        (ChangeKind.HEARTBEAT, {"down_since": NOON}, []),
        (ChangeKind.QUARANTINE, {"is_quarantined": True}, [("quarantined", "")]),
        (ChangeKind.QUARANTINE, {}, []),
        (
            ChangeKind.HEALING,
            {"healing": healing_text(HealingState.GAVE_UP, "3 cycles in 24 h")},
            [("gave_up", "3 cycles in 24 h")],
        ),
        (
            ChangeKind.HEALING,
            {"healing": healing_text(HealingState.HEALED, "after 1 cycle")},
            [("healed", "after 1 cycle")],
        ),
        (ChangeKind.HEALING, {"healing": healing_text(HealingState.WAITING, "not yet")}, []),
        (ChangeKind.HEALING, {"healing": ""}, []),
        (ChangeKind.MODE, {"maintenance_mode": "ann"}, []),
    ],
)
def test_a_change_tells_what_people_want_to_know(
    kind: ChangeKind, fields: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert told(kind, machine("m", **fields)) == expected


def test_a_controller_in_error_is_told_once_until_it_answers_again() -> None:
    in_error: set[str] = set()
    broken, well = machine("m", power_cycle_state="in_error"), machine("m", power_cycle_state="available")
    assert told(ChangeKind.POWER, broken, in_error) == [(NoticeKind.CONTROLLER.value, "")]
    assert told(ChangeKind.HEARTBEAT, broken, in_error) == []
    assert told(ChangeKind.POWER, well, in_error) == []
    assert told(ChangeKind.POWER, broken, in_error) == [(NoticeKind.CONTROLLER.value, "")]
