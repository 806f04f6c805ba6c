"""What simulated machines report is what real monitors report."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.processor.process import process
from producers.simulator.catalogue import PHONES, Machine, furnish
from producers.simulator.life import Life
from producers.simulator.reports import report
from schemas.description import AttachedDevice, Description
from schemas.event import Event

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIFE = Life(at=NOW, monitor_start=NOW, device_boot=NOW - timedelta(hours=1))
PHONE = Machine("rack1-shelf1-pixel5-01", PHONES[0], "9A2B")
KINDS = {
    AttachedDevice.ADB: "android",
    AttachedDevice.IOS: "ios",
    AttachedDevice.SSH: "chromeos",
    AttachedDevice.PYOCD: "pyocd",
    AttachedDevice.NONE: "standalone",
}


def applied(machine: Machine, life: Life) -> Description:
    event = Event.model_validate_json(report(machine, life).model_dump_json())
    return process(Description.new(machine.id, now=NOW), event, now=NOW).after


@pytest.mark.parametrize("machine", furnish(60, seed=1), ids=lambda machine: machine.id)
def test_a_report_carries_the_device_that_stands_there(machine: Machine) -> None:
    assert report(machine, LIFE).device_kind == KINDS[machine.attached_device]


def test_a_phones_report_is_as_long_as_a_real_one() -> None:
    assert 30_000 < len(report(PHONE, LIFE).model_dump_json()) < 40_000


def test_a_phones_report_becomes_the_dimensions_of_that_phone() -> None:
    dimensions = applied(PHONE, LIFE).dimensions or {}

    assert dimensions["device_type"] == ["redfin"]
    assert dimensions["device_os"] == ["U", "UP1A.231105.001", "UP1A.231105.001_10817346"]
    assert dimensions["device_os_flavor"] == ["google"]
    assert dimensions["device_os_type"] == ["user"]


def test_a_phone_with_enough_battery_and_at_room_temperature_is_well() -> None:
    description = applied(PHONE, replace(LIFE, battery=64.4, celsius=27.3))

    assert description.battery == 64
    assert description.recovering == ""
    assert description.temperature is not None
    assert description.temperature["battery"] == 27.3
    assert description.device_uptime_s == 3600


def test_a_phone_at_work_is_still_cool_enough() -> None:
    assert applied(PHONE, replace(LIFE, celsius=33.5)).recovering == ""


def test_a_drained_and_hot_phone_recovers() -> None:
    assert applied(PHONE, replace(LIFE, battery=12.0, celsius=39.0)).recovering == "Battery low. Too hot."


def test_a_vanished_device_leaves_no_device_part() -> None:
    assert report(PHONE, replace(LIFE, absent_s=10.0)).device_kind is None


def test_a_device_that_just_booted_counts_as_present() -> None:
    assert report(PHONE, replace(LIFE, device_boot=NOW)).device_kind == "android"


def test_task_quarantine_and_sequence_are_told() -> None:
    event = report(PHONE, replace(LIFE, task_left_s=5.0, quarantine_due=True, sequence=12))

    assert event.running_swarming_task
    assert event.forced_quarantine
    assert event.sequence == 12
    assert event.host.start_time == NOW
