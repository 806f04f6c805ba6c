"""What a person would call a change."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.processor.transition import Difference, differences
from schemas.changes import ChangeKind
from schemas.description import Annotation, TaskRequest
from tests.unit.pipeline.processor.samples import (
    NOW,
    PIXEL_3A,
    STANDALONE_EVENT,
    STARTED,
    after,
    android_event,
    description,
    recovering,
    thermal_dump,
)


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ({}, {"maintenance_mode": "fred"}, Difference(ChangeKind.MODE, "", "fred")),
        ({"is_quarantined": True}, {}, Difference(ChangeKind.QUARANTINE, "forced quarantine", "")),
        ({}, {"recovering": "Too hot."}, Difference(ChangeKind.RECOVERY, "", "Too hot.")),
        ({}, {"attached_device": "adb"}, Difference(ChangeKind.DEVICE, "nodevice", "adb")),
        ({}, {"ssh_user_ip": "root@x"}, Difference(ChangeKind.DEVICE, "nodevice", "nodevice root@x")),
        (
            {},
            {"power_cycle": True},
            Difference(ChangeKind.POWER, "not_available", "not_available, power cycle requested"),
        ),
        (
            {"power_cycle_state": ""},
            {"power_cycle_state": "available"},
            Difference(ChangeKind.POWER, "", "available"),
        ),
        (
            {"power_cycle_state": "available"},
            {
                "power_cycle_state": "available",
                "power_cycle": True,
                "power_action": "cycle",
                "power_status": "queued",
            },
            Difference(ChangeKind.POWER, "available", "available, cycle queued"),
        ),
        (
            {"power_action": "off", "power_status": "on"},
            {"power_action": "off", "power_status": "failed"},
            Difference(ChangeKind.POWER, "not_available, off on", "not_available, off failed"),
        ),
        ({}, {"healing": "gave_up: thrice"}, Difference(ChangeKind.HEALING, "", "gave_up: thrice")),
        (
            {"dimensions": {"os": ["Linux"], "gone": ["x"], "same": ["y"]}},
            {"dimensions": {"os": ["Linux", "Debian"], "new": ["z"], "same": ["y"]}},
            Difference(ChangeKind.DIMENSIONS, "gone=x, os=Linux", "new=z, os=Linux|Debian"),
        ),
        (
            {},
            {"note": Annotation(message="fan", user="fred", timestamp=NOW)},
            Difference(ChangeKind.NOTE, "", "fan"),
        ),
        ({}, {"down_since": STARTED}, Difference(ChangeKind.DOWN, "", "silent since 2021-09-01T10:00:00Z")),
        (
            {"task_request": TaskRequest(name="build")},
            {},
            Difference(ChangeKind.TASK, "build", ""),
        ),
    ],
)
def test_a_change_is_told_in_words(old: dict[str, Any], new: dict[str, Any], difference: Difference) -> None:
    assert differences(description(**old), description(**new)) == (difference,)


@pytest.mark.parametrize("status", ["accepted", "off", "on"])
def test_a_step_of_a_power_command_is_told_but_fills_no_line(status: str) -> None:
    before = description(power_action="cycle", power_status="queued")
    (difference,) = differences(before, description(power_action="cycle", power_status=status))

    assert difference.kind is ChangeKind.POWER
    assert not difference.is_line


def test_a_line_tells_of_a_controller_that_fails_within_a_command() -> None:
    before = description(power_action="cycle", power_status="off", power_cycle_state="available")
    failing = description(power_action="cycle", power_status="off", power_cycle_state="in_error")

    assert [each.is_line for each in differences(before, failing)] == [True]


@pytest.mark.parametrize(
    "fields",
    [
        {"last_updated": NOW},
        {"battery": 7},
        {"temperature": {"cpu": 30.0}},
        {"dimensions": {"id": ["skia-rpi2-0001"]}},
        {"dimensions": {"id": ["skia-rpi2-0001"], "quarantined": ["x"], "tmm_version": ["2"]}},
        {"dimensions": {"id": ["skia-rpi2-0001"], "gpu": [], "cpu": None}},
        {"version": "2", "running_swarming_task": True},
        {"annotation": Annotation(message="m", user="u", timestamp=NOW)},
        {"note": Annotation()},
    ],
)
def test_a_heartbeat_is_no_change(fields: dict[str, Any]) -> None:
    assert differences(description(), description(**fields)) == ()


def test_one_step_may_change_several_things() -> None:
    before = recovering(down_since=STARTED)
    kinds = [difference.kind for difference in differences(before, after(before, STANDALONE_EVENT))]
    assert kinds == [ChangeKind.RECOVERY, ChangeKind.DIMENSIONS, ChangeKind.DOWN]


def test_a_second_reason_to_recover_is_a_change() -> None:
    before = recovering("Battery low.")
    hot = android_event(PIXEL_3A, thermal=thermal_dump("40.0"))
    assert Difference(ChangeKind.RECOVERY, "Battery low.", "Too hot.") in differences(
        before, after(before, hot)
    )
