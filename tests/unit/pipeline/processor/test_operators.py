"""What people, power agents and the watchdog do to a machine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.processor import operators
from pipeline.processor.process import process
from pipeline.store.protocol import Change
from schemas.description import Annotation, AttachedDevice, Description, PowerCycleState
from tests.unit.pipeline.processor.samples import (
    MACHINE,
    MISSING_EVENT,
    NOW,
    PIXEL_3A_DIMENSIONS,
    STARTED,
    description,
    recovering,
)
from tests.unit.pipeline.processor.strategies import descriptions

FRED = "fred@example.org"
AT = "2021-09-01T10:01:05Z"
"""`NOW` in whole seconds."""


def by_fred(message: str) -> Annotation:
    return Annotation(message=message, user=FRED, timestamp=NOW)


CHANGES: dict[str, Change] = {
    "set maintenance": partial(operators.set_maintenance, user=FRED, now=NOW),
    "clear maintenance": partial(operators.clear_maintenance, user=FRED, now=NOW),
    "clear quarantine": operators.clear_quarantine,
    "cancel power cycle": partial(operators.cancel_power_cycle, machine_id=MACHINE, user=FRED, now=NOW),
    "complete power cycle": operators.complete_power_cycle,
    "set power cycle state": partial(operators.set_power_cycle_state, state=PowerCycleState.IN_ERROR),
    "set attached device": partial(operators.set_attached_device, device=AttachedDevice.SSH),
    "mark down": partial(operators.mark_down, since=NOW),
}
TOGGLES: dict[str, Change] = {
    "toggle mode": partial(operators.toggle_mode, user=FRED, now=NOW),
    "remove device": partial(operators.remove_device, machine_id=MACHINE, user=FRED, now=NOW),
    "set note": partial(operators.set_note, message="hello", user=FRED, now=NOW),
    "supply chromeos": partial(
        operators.supply_chromeos, ssh_user_ip="root@host", dimensions={"gpu": ["Mali"]}, now=NOW
    ),
}


@given(st.sampled_from(sorted(CHANGES)), descriptions)
def test_what_is_so_already_is_the_very_same_object(name: str, before: Description) -> None:
    once = CHANGES[name](before)
    assert CHANGES[name](once) is once
    assert once is before or once != before


@given(st.sampled_from(sorted([*CHANGES, *TOGGLES])), descriptions)
def test_the_outcome_can_be_written_and_nothing_handed_in_is_changed(name: str, before: Description) -> None:
    written = before.model_dump_json()
    after = {**CHANGES, **TOGGLES}[name](before)
    assert before.model_dump_json() == written
    assert not after.model_extra
    assert Description.model_validate_json(after.model_dump_json()) == after


def changed_fields(before: Description, after: Description) -> dict[str, Any]:
    return {
        name: getattr(after, name)
        for name in Description.model_fields
        if getattr(before, name) != getattr(after, name)
    }


@pytest.mark.parametrize("begin", [operators.set_maintenance, operators.toggle_mode])
def test_maintenance_begins(begin: Callable[..., Description]) -> None:
    before = description()
    assert changed_fields(before, begin(before, user=FRED, now=NOW)) == {
        "maintenance_mode": f"{FRED} {AT}",
        "annotation": by_fred("Enabled Maintenance Mode"),
    }


def test_a_reason_for_maintenance_follows_the_time() -> None:
    result = operators.set_maintenance(description(), user=FRED, now=NOW, reason="new battery")
    assert result.maintenance_mode == f"{FRED} {AT} new battery"


def test_maintenance_keeps_its_first_reason() -> None:
    before = operators.set_maintenance(description(), user=FRED, now=NOW, reason="new battery")
    assert operators.set_maintenance(before, user="ann", now=NOW, reason="other") is before


@pytest.mark.parametrize("end", [operators.clear_maintenance, operators.toggle_mode])
def test_maintenance_ends(end: Callable[..., Description]) -> None:
    before = description(maintenance_mode=f"{FRED} {AT}")
    assert changed_fields(before, end(before, user=FRED, now=NOW)) == {
        "maintenance_mode": "",
        "annotation": by_fred("Cleared Maintenance Mode."),
    }


def test_a_quarantine_is_cleared_without_an_annotation() -> None:
    before = description(is_quarantined=True)
    assert changed_fields(before, operators.clear_quarantine(before)) == {"is_quarantined": False}


def test_a_power_cycle_is_cancelled() -> None:
    before = description(power_cycle=True)
    assert changed_fields(
        before, operators.cancel_power_cycle(before, machine_id=MACHINE, user=FRED, now=NOW)
    ) == {"power_cycle": False, "annotation": by_fred(f'Cancelled powercycle for "{MACHINE}"')}


def test_a_power_cycle_is_complete() -> None:
    before = description(power_cycle=True)
    assert changed_fields(before, operators.complete_power_cycle(before)) == {"power_cycle": False}


@pytest.mark.parametrize("state", PowerCycleState)
def test_the_power_cycle_state_is_set(state: PowerCycleState) -> None:
    before = description(power_cycle_state="")
    result = operators.set_power_cycle_state(before, state=state)
    assert changed_fields(before, result) == {"power_cycle_state": state.value}
    assert type(result.power_cycle_state) is str


@pytest.mark.parametrize("device", AttachedDevice)
def test_the_attached_device_is_set(device: AttachedDevice) -> None:
    before = description(attached_device="")
    result = operators.set_attached_device(before, device=device)
    assert changed_fields(before, result) == {"attached_device": device.value}
    assert type(result.attached_device) is str


def test_a_device_is_removed_and_the_machine_keeps_its_id() -> None:
    before = recovering(
        attached_device="ssh",
        battery=50,
        power_cycle=True,
        temperature={"cpu": 30.0},
        ssh_user_ip="root@host",
        supplied_dimensions={"gpu": ["Mali"]},
        dimensions={**PIXEL_3A_DIMENSIONS, "id": ["x", MACHINE], "pool": ["Skia"]},
        device_kind="android",
    )
    result = operators.remove_device(before, machine_id=MACHINE, user=FRED, now=NOW)
    assert changed_fields(before, result) == {
        "dimensions": {"id": ["x", MACHINE]},
        "temperature": None,
        "supplied_dimensions": None,
        "ssh_user_ip": "",
        "device_kind": "",
        "annotation": by_fred(f'Requested device removal of "{MACHINE}"'),
    }


def test_a_removed_device_is_not_missed() -> None:
    before = description(dimensions=PIXEL_3A_DIMENSIONS, ssh_user_ip="root@host")
    removed = operators.remove_device(before, machine_id=MACHINE, user=FRED, now=NOW)
    assert removed.dimension("id") == [MACHINE]
    assert process(removed, MISSING_EVENT, now=NOW).after.recovering == ""


@pytest.mark.parametrize("message", ["look at its fan", ""])
def test_a_note_is_left(message: str) -> None:
    before = description(note=Annotation(message="old", user="ann", timestamp=STARTED))
    after = operators.set_note(before, message=message, user=FRED, now=NOW)
    assert changed_fields(before, after) == {"note": by_fred(message)}


def test_chromeos_dimensions_are_supplied() -> None:
    before = description()
    after = operators.supply_chromeos(before, ssh_user_ip="root@host", dimensions={"gpu": ["Mali"]}, now=NOW)
    assert changed_fields(before, after) == {
        "ssh_user_ip": "root@host",
        "supplied_dimensions": {"gpu": ["Mali"]},
        "last_updated": NOW,
    }


def test_a_silent_machine_is_marked_down_until_it_speaks() -> None:
    before = description()
    down = operators.mark_down(before, since=before.last_updated)
    assert changed_fields(before, down) == {"down_since": before.last_updated}
    assert operators.mark_down(down, since=NOW) is down
    assert not process(down, MISSING_EVENT, now=NOW).after.is_down


def test_a_machine_that_has_spoken_meanwhile_is_not_marked_down() -> None:
    before = description(last_updated=NOW)
    assert operators.mark_down(before, since=NOW - timedelta(milliseconds=1)) is before
