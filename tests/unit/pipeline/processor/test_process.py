"""What an event does to a machine: sections of the machine server's specification, rule by rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.processor.process import process
from schemas.description import Annotation, Description
from schemas.event import Event
from schemas.wire import ZERO_TIME
from tests.unit.pipeline.processor.samples import (
    BOOTED,
    CHROMEOS_EVENT,
    COLD_SENSORS,
    HOT_SENSORS,
    IOS_EVENT,
    MACHINE,
    MISSING_EVENT,
    NOW,
    NS,
    PIXEL_3A,
    PIXEL_3A_DIMENSIONS,
    PYOCD_EVENT,
    STANDALONE_EVENT,
    STARTED,
    VERSION,
    after,
    android_event,
    battery_dump,
    description,
    event,
    recovering,
    sensor,
    thermal_dump,
)

EVENTS = {
    "android": android_event(PIXEL_3A),
    "chromeos": CHROMEOS_EVENT,
    "ios": IOS_EVENT,
    "pyocd": PYOCD_EVENT,
    "standalone": STANDALONE_EVENT,
    "missing device": MISSING_EVENT,
}
every_kind = pytest.mark.parametrize("kind", EVENTS)


def automatic(message: str) -> Annotation:
    return Annotation(message=message, user="labkeeper", timestamp=NOW)


# Which branch


@pytest.mark.parametrize("kind", ["", "raw_State", "something_new"])
def test_an_event_of_unknown_type_changes_nothing_at_all(kind: str) -> None:
    before = description(down_since=STARTED)
    unknown = android_event(PIXEL_3A, sequence=1, forced_quarantine=True).model_copy(update={"type": kind})
    transition = process(before, unknown, now=NOW)
    assert transition.after is before
    assert transition.unknown_type
    assert not transition.replayed


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"android": {"uptime": 10}}, "android"),
        ({"android": {"uptime": 0, "getprop": PIXEL_3A}}, ""),
        ({"android": {"uptime": -1, "getprop": PIXEL_3A}}, ""),
        ({"chromeos": {"uptime": 1}}, "chromeos"),
        ({"chromeos": {"uptime": 0, "channel": "stable"}}, ""),
        ({"ios": {"device_type": "iPhone"}}, "ios"),
        ({"ios": {"version": "13", "battery": 50}}, ""),
        ({"pyocd": {"device_type": "Pico"}}, "pyocd"),
        ({"pyocd": {"device_type": ""}}, ""),
        ({"standalone": {"cores": 1}}, "standalone"),
        ({"standalone": {"cores": 0, "cpus": ["x86"]}}, ""),
        ({"standalone": {"cores": 1}, "pyocd": {"device_type": "Pico"}}, "pyocd"),
        ({"pyocd": {"device_type": "Pico"}, "ios": {"device_type": "iPhone"}}, "ios"),
        ({"ios": {"device_type": "iPhone"}, "chromeos": {"uptime": 1}}, "chromeos"),
        ({"chromeos": {"uptime": 1}, "android": {"uptime": 1}}, "android"),
    ],
)
def test_the_first_part_that_is_present_counts(document: dict[str, Any], kind: str) -> None:
    assert after(description(), event(**document)).device_kind == kind


# Every branch


@every_kind
def test_general_fields_are_taken_from_every_event(kind: str) -> None:
    before = description(version="old", last_updated=STARTED)
    told = EVENTS[kind].model_copy(update={"running_swarming_task": True, "launched_swarming": True})
    result = after(before, told)
    assert result.last_updated == NOW
    assert result.version == VERSION
    assert result.dimension("tmm_version") == [VERSION]
    assert result.running_swarming_task
    assert result.launched_swarming
    untold = after(result, EVENTS[kind])
    assert not untold.running_swarming_task
    assert not untold.launched_swarming


@every_kind
def test_an_empty_version_is_a_dimension_too(kind: str) -> None:
    host = EVENTS[kind].host.model_copy(update={"version": ""})
    result = after(description(), EVENTS[kind].model_copy(update={"host": host}))
    assert result.dimensions is not None
    assert result.dimensions["tmm_version"] == [""]


@every_kind
def test_a_forced_quarantine_is_set_by_an_event_and_never_cleared(kind: str) -> None:
    forced = EVENTS[kind].model_copy(update={"forced_quarantine": True})
    assert after(description(), forced).is_quarantined
    assert after(description(is_quarantined=True), EVENTS[kind]).is_quarantined
    assert not after(description(), EVENTS[kind]).is_quarantined


@every_kind
def test_an_event_ends_being_down(kind: str) -> None:
    assert not after(description(down_since=STARTED), EVENTS[kind]).is_down


@every_kind
def test_maintenance_is_not_the_business_of_events(kind: str) -> None:
    before = description(maintenance_mode="fred@example.org 2021-09-01T10:00:00Z")
    assert after(before, EVENTS[kind]).maintenance_mode == before.maintenance_mode


@every_kind
def test_missing_maps_come_out_empty(kind: str) -> None:
    result = after(Description(), EVENTS[kind])
    assert result.supplied_dimensions == {}
    assert result.dimension("tmm_version") == [VERSION]


@every_kind
@pytest.mark.parametrize("attached", ["nodevice", "adb", "ios", "pyocd", "ssh", "whatever"])
def test_what_should_be_attached_does_not_matter(kind: str, attached: str) -> None:
    result = after(description(attached_device=attached), EVENTS[kind])
    assert result == after(description(), EVENTS[kind]).model_copy(update={"attached_device": attached})


@every_kind
def test_other_dimensions_are_kept(kind: str) -> None:
    before = description(dimensions={"rack": ["4"], "pool": ["Skia"], "quarantined": ["old text"]})
    result = after(before, EVENTS[kind])
    assert (result.dimension("rack"), result.dimension("pool")) == (["4"], ["Skia"])
    assert result.dimension("quarantined") == ["old text"]


# Sequences


@pytest.mark.parametrize(
    ("start", "sequence", "replayed"),
    [
        (BOOTED, 5, True),
        (BOOTED, 4, True),
        (BOOTED, 0, True),
        (BOOTED, 6, False),
        (BOOTED + timedelta(seconds=1), 0, False),
        (BOOTED - timedelta(seconds=1), 99, True),
        (ZERO_TIME, 99, True),
    ],
)
def test_what_was_applied_is_not_applied_again(start: datetime, sequence: int, replayed: bool) -> None:
    before = description(monitor_start=BOOTED, monitor_sequence=5)
    transition = process(before, event(sequence=sequence, host={"start_time": start}), now=NOW)
    assert transition.replayed == replayed
    assert (transition.after is before) == replayed
    if not replayed:
        assert transition.after.monitor_start == start
        assert transition.after.monitor_sequence == sequence


def test_the_first_sequence_always_applies() -> None:
    before = description(monitor_start=NOW)
    result = after(before, event(sequence=0))
    assert (result.monitor_start, result.monitor_sequence) == (BOOTED, 0)


def test_events_without_a_sequence_apply_and_leave_the_count() -> None:
    before = description(monitor_start=NOW, monitor_sequence=7)
    transition = process(before, MISSING_EVENT, now=NOW)
    assert not transition.replayed
    assert transition.after.last_updated == NOW
    assert (transition.after.monitor_start, transition.after.monitor_sequence) == (NOW, 7)


@pytest.mark.parametrize(
    ("earlier", "version", "replayed"),
    [
        (timedelta(milliseconds=1), 3, True),
        (timedelta(minutes=5), 3, True),
        (timedelta(0), 3, False),
        (timedelta(minutes=5, milliseconds=1), 3, False),
        (timedelta(milliseconds=1), 0, False),
    ],
    ids=["late", "very late", "at the same time", "a broker's clock was set back", "a machine just made"],
)
def test_an_event_without_a_sequence_does_not_undo_a_later_one(
    earlier: timedelta, version: int, replayed: bool
) -> None:
    before = description(last_updated=NOW, row_version=version)
    transition = process(before, MISSING_EVENT, now=NOW - earlier)
    assert transition.replayed == replayed
    assert (transition.after is before) == replayed


# Android


def test_an_android_device_is_attached() -> None:
    before = description(dimensions={})
    result = after(before, android_event(PIXEL_3A, uptime_ns=5 * NS))
    assert result == before.model_copy(
        update={
            "last_updated": NOW,
            "dimensions": {**PIXEL_3A_DIMENSIONS, "id": [MACHINE], "tmm_version": [VERSION]},
            "supplied_dimensions": {},
            "battery": -99,
            "version": VERSION,
            "device_uptime_s": 5,
            "device_kind": "android",
        }
    )


@pytest.mark.parametrize(
    ("uptime_ns", "seconds"),
    [(10, 0), (NS - 1, 0), (NS, 1), (123 * NS + 999_999_999, 123), (2**63 - 1, 2**31 - 1)],
)
def test_uptime_is_cut_to_whole_seconds_that_fit_32_bits(uptime_ns: int, seconds: int) -> None:
    assert after(description(), android_event(uptime_ns=uptime_ns)).device_uptime_s == seconds
    assert after(description(), event(chromeos={"uptime": uptime_ns})).device_uptime_s == seconds


def test_android_dimensions_are_merged_into_those_of_android() -> None:
    before = after(description(), android_event(PIXEL_3A + "\n[ro.product.name]: [sargo_hwasan]"))
    result = after(before, android_event("[ro.build.type]: [userdebug]"))
    assert result.dimension("device_os_type") == ["userdebug"]
    assert result.dimension("device_type") == ["sargo"]
    assert result.dimension("android_hwasan_build") == ["1"]


def test_an_incremental_build_without_a_build_id_is_no_reason_to_fall_over() -> None:
    result = after(description(), android_event("[ro.build.version.incremental]: [6254899]"))
    assert result.dimension("device_os") == []


@pytest.mark.parametrize(
    ("battery", "thermal", "reason"),
    [
        (battery_dump(9), "", "Battery low."),
        (battery_dump(29), "", "Battery low."),
        (battery_dump(0), "", "Battery low."),
        (battery_dump(30), "", ""),
        (battery_dump(95), "", ""),
        ("", "", ""),
        ("", thermal_dump(*HOT_SENSORS), "Too hot."),
        ("", thermal_dump(*COLD_SENSORS), ""),
        ("", thermal_dump("35.0"), ""),
        ("", thermal_dump("35.1"), "Too hot."),
        ("", thermal_dump("36000"), "Too hot."),
        ("", "Current temperatures from HAL:\n" + sensor("300.0", "battery_cycle"), ""),
        (battery_dump(95, temperature=350), "", ""),
        (battery_dump(95, temperature=351), "", "Too hot."),
        (battery_dump(9), thermal_dump(*HOT_SENSORS), "Battery low. Too hot."),
    ],
)
def test_a_low_battery_or_a_hot_device_sends_the_machine_to_recovery(
    battery: str, thermal: str, reason: str
) -> None:
    result = after(description(), android_event(battery=battery, thermal=thermal))
    assert result.recovering == reason
    assert result.annotation == (automatic(reason) if reason else Annotation())
    assert result.recovery_start == (NOW if reason else ZERO_TIME)


def test_battery_and_temperature_are_shown() -> None:
    result = after(
        description(),
        android_event(battery=battery_dump(95, temperature=281), thermal=thermal_dump("20.5")),
    )
    assert result.battery == 95
    assert result.temperature == {"sensor0": 20.5, "dumpsys_battery": 28.1}


def test_what_cannot_be_read_is_shown_as_unknown() -> None:
    result = after(description(battery=50, temperature={"cpu": 30.0}), android_event("", battery="garbage"))
    assert result.battery == -99
    assert result.temperature is None


# ChromeOS


def test_a_chromeos_device_is_attached() -> None:
    before = description(
        ssh_user_ip="root@my-chromebook",
        battery=50,
        temperature={"cpu": 30.0},
        supplied_dimensions={"cpu": ["arm"], "gpu": ["MaliT654"]},
        dimensions={
            "id": [MACHINE],
            "os": ["Debian", "Debian-11", "Debian-11.0", "Linux"],
            "cpu": ["x86", "x86_64"],
            "gpu": ["none"],
        },
    )
    result = after(before, CHROMEOS_EVENT)
    assert result.dimensions == {
        "id": [MACHINE],
        "os": ["ChromeOS"],
        "cpu": ["arm"],
        "gpu": ["MaliT654"],
        "chromeos_channel": ["stable-channel"],
        "chromeos_milestone": ["89"],
        "release_version": ["13729.56.0"],
        "tmm_version": [VERSION],
    }
    assert result.supplied_dimensions is before.supplied_dimensions
    assert (result.battery, result.temperature, result.device_uptime_s) == (0, None, 123)
    assert result.ssh_user_ip == "root@my-chromebook"
    assert result.recovering == ""
    assert result.annotation is before.annotation


def test_chromeos_reports_empty_fields_as_they_are() -> None:
    result = after(description(), event(chromeos={"uptime": 1}))
    assert result.dimensions is not None
    for name in ("chromeos_channel", "chromeos_milestone", "release_version"):
        assert result.dimensions[name] == [""]


def test_chromeos_overrules_what_was_supplied() -> None:
    before = description(supplied_dimensions={"os": ["Plan9"], "release_version": ["1"], "rack": ["7"]})
    result = after(before, CHROMEOS_EVENT)
    assert result.dimension("os") == ["ChromeOS"]
    assert result.dimension("release_version") == ["13729.56.0"]
    assert result.dimension("rack") == ["7"]


def test_chromeos_does_not_set_the_id() -> None:
    assert after(description(dimensions={}), CHROMEOS_EVENT).dimension("id") == []


def test_supplied_dimensions_are_for_chromeos_only() -> None:
    before = description(supplied_dimensions={"rack": ["7"]})
    for kind in EVENTS.keys() - {"chromeos"}:
        assert after(before, EVENTS[kind]).dimension("rack") == []


# iOS


def test_an_ios_device_is_attached() -> None:
    before = description(battery=12, temperature={"cpu": 30.0}, device_uptime_s=77, dimensions={})
    result = after(before, IOS_EVENT)
    assert result.dimensions == {
        "os": ["iOS", "iOS-13.3.1"],
        "device_type": ["iPhone10,1"],
        "tmm_version": [VERSION],
    }
    assert (result.battery, result.temperature, result.device_uptime_s) == (33, None, 77)
    assert result.recovering == ""


def test_an_ios_device_without_a_version() -> None:
    assert after(description(), event(ios={"device_type": "iPhone"})).dimension("os") == ["iOS"]


@pytest.mark.parametrize(
    ("battery", "reason"),
    [(-99, ""), (30, ""), (100, ""), (29, "Battery low."), (0, "Battery low."), (-1, "Battery low.")],
)
def test_an_ios_battery_may_be_low(battery: int, reason: str) -> None:
    result = after(description(), event(ios={"device_type": "iPhone", "battery": battery}))
    assert result.recovering == reason
    assert result.annotation == (automatic(reason) if reason else Annotation())
    assert result.battery == battery


# PyOCD


def test_a_pyocd_device_is_attached() -> None:
    before = description(battery=12, temperature={"cpu": 30.0}, device_uptime_s=77, dimensions={})
    result = after(before, PYOCD_EVENT)
    assert result.dimensions == {"id": [MACHINE], "device_type": ["Pico"], "tmm_version": [VERSION]}
    assert (result.battery, result.temperature, result.device_uptime_s) == (0, None, 77)


def test_a_pyocd_device_ends_recovery_without_a_word() -> None:
    before = recovering()
    result = after(before, PYOCD_EVENT)
    assert result.recovering == ""
    assert result.annotation is before.annotation
    assert result.recovery_start == STARTED


# Standalone


def test_a_standalone_machine_reports() -> None:
    before = description(battery=12, temperature={"cpu": 30.0}, device_uptime_s=77, dimensions={})
    result = after(before, STANDALONE_EVENT)
    assert result.dimensions == {
        "id": [MACHINE],
        "cores": ["8"],
        "os": ["Linux", "Debian-11.0"],
        "cpu": ["x86", "x86_64"],
        "gpu": ["none"],
        "tmm_version": [VERSION],
    }
    assert (result.battery, result.temperature, result.device_uptime_s) == (0, None, 77)


def test_a_standalone_machine_may_be_in_the_cloud_and_may_have_docker() -> None:
    cloud = event(
        standalone={"cores": 1, "gce": True, "machine_type": "n1-highmem-2", "docker_installed": True}
    )
    result = after(description(), cloud)
    assert result.dimension("gce") == ["1"]
    assert result.dimension("machine_type") == ["n1-highmem-2"]
    assert result.dimension("docker_installed") == ["true"]


def test_a_machine_type_counts_only_in_the_cloud() -> None:
    result = after(description(), event(standalone={"cores": 1, "machine_type": "n1-highmem-2"}))
    assert result.dimension("machine_type") == []


def test_cloud_and_docker_stay_while_the_machine_stays_standalone() -> None:
    cloud = event(standalone={"cores": 1, "gce": True, "machine_type": "m", "docker_installed": True})
    result = after(description(), cloud, event(standalone={"cores": 2}))
    assert result.dimension("cores") == ["2"]
    assert result.dimension("gce") == ["1"]
    assert result.dimension("docker_installed") == ["true"]


def test_lists_of_a_standalone_machine_are_taken_as_given() -> None:
    result = after(description(), event(standalone={"cores": 1, "cpus": [], "gpus": None}))
    assert result.dimensions is not None
    assert result.dimensions["cpu"] == []
    assert result.dimensions["gpu"] is None
    assert result.dimensions["os"] is None


# Missing device


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"dimensions": {"device_type": ["sargo"]}}, 'Device ["sargo"] has gone missing'),
        (
            {"dimensions": {"device_type": ["4560MMX_sprout", "sargo"]}},
            'Device ["4560MMX_sprout" "sargo"] has gone missing',
        ),
        ({"dimensions": {"device_type": ['a"b\n']}}, 'Device ["a\\"b\\n"] has gone missing'),
        ({"dimensions": {"device_type": [""]}}, 'Device [""] has gone missing'),
        ({"ssh_user_ip": "root@my-chromebook"}, 'Device "root@my-chromebook" has gone missing'),
        (
            {"dimensions": {"device_type": ["sargo"]}, "ssh_user_ip": "root@my-chromebook"},
            'Device "root@my-chromebook" has gone missing',
        ),
    ],
)
def test_a_missing_device_sends_the_machine_to_recovery(fields: dict[str, object], text: str) -> None:
    before = description(battery=50, temperature={"cpu": 30.0}, device_uptime_s=9, **fields)
    result = after(before, MISSING_EVENT)
    assert result.recovering == text
    assert result.annotation == automatic(text)
    assert result.recovery_start == NOW
    assert (result.battery, result.temperature, result.device_uptime_s) == (0, None, 9)
    assert result.dimension("id") == [MACHINE]


@pytest.mark.parametrize("dimensions", [{}, {"device_type": []}, {"device_type": None}])
def test_a_machine_that_never_had_a_device_misses_none(dimensions: dict[str, object]) -> None:
    before = description(dimensions=dimensions)
    result = after(before, MISSING_EVENT)
    assert result.recovering == ""
    assert result.annotation is before.annotation
    assert result.dimension("id") == [MACHINE]


def test_a_recovering_machine_without_a_device_keeps_its_reason() -> None:
    before = recovering("Too hot.")
    result = after(before, MISSING_EVENT)
    assert result.recovering == "Too hot."
    assert result.annotation is before.annotation
    assert result.recovery_start == STARTED


def test_a_device_that_comes_back_ends_recovery() -> None:
    before = description(dimensions={**PIXEL_3A_DIMENSIONS, "id": [MACHINE]})
    result = after(before, MISSING_EVENT, android_event(PIXEL_3A))
    assert result.recovering == ""
    assert result.annotation == automatic("Leaving recovery mode.")
    assert result.recovery_start == NOW


# Recovery

LATER = datetime(2021, 9, 1, 11, 0, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["android", "chromeos", "ios", "standalone"])
def test_a_healthy_report_ends_recovery_with_an_annotation(kind: str) -> None:
    result = after(recovering(), EVENTS[kind])
    assert result.recovering == ""
    assert result.annotation == automatic("Leaving recovery mode.")
    assert result.recovery_start == STARTED


@every_kind
def test_a_healthy_report_of_a_healthy_machine_leaves_the_annotation(kind: str) -> None:
    before = description(annotation=Annotation(message="by hand", user="fred", timestamp=STARTED))
    assert after(before, EVENTS[kind]).annotation is before.annotation


@pytest.mark.parametrize(
    "hot",
    [android_event(PIXEL_3A, thermal=thermal_dump("40.0"))],
)
def test_the_same_reason_again_changes_nothing(hot: Event) -> None:
    first = process(description(), hot, now=NOW).after
    second = process(first, hot, now=LATER).after
    assert second.recovering == "Too hot."
    assert second.annotation is first.annotation
    assert second.recovery_start == NOW


def test_another_reason_replaces_the_text_but_not_the_start() -> None:
    hot = android_event(PIXEL_3A, thermal=thermal_dump("40.0"))
    weak = android_event(PIXEL_3A, battery=battery_dump(5))
    result = process(process(description(), hot, now=NOW).after, weak, now=LATER).after
    assert result.recovering == "Battery low."
    assert result.annotation == Annotation(message="Battery low.", user="labkeeper", timestamp=LATER)
    assert result.recovery_start == NOW


def test_a_missing_device_replaces_another_reason_but_not_the_start() -> None:
    hot = process(description(), android_event(PIXEL_3A, thermal=thermal_dump("40.0")), now=NOW).after
    result = process(hot, MISSING_EVENT, now=LATER).after
    text = 'Device ["sargo"] has gone missing'
    assert result.recovering == text
    assert result.annotation == Annotation(message=text, user="labkeeper", timestamp=LATER)
    assert result.recovery_start == NOW


def test_a_run_that_began_in_the_future_leaves_no_trace_that_would_block_the_next() -> None:
    host = STANDALONE_EVENT.host.model_copy(update={"start_time": NOW + timedelta(days=400)})
    event = STANDALONE_EVENT.model_copy(update={"host": host, "sequence": 3})

    once = process(Description.new(MACHINE, now=NOW), event, now=NOW).after
    again = process(once, event, now=NOW + timedelta(seconds=30))

    assert (once.monitor_start, once.monitor_sequence) == (ZERO_TIME, -1)
    assert not again.replayed
