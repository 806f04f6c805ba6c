"""Descriptions: keys, order and zero values are the machine server's; our own fields come after them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from schemas.changes import ChangeKind, MachineChange, change_json
from schemas.description import Annotation, Description, TaskRequest
from schemas.ids import is_machine_id

NOW = datetime(2026, 1, 2, 3, 4, 5, 670_000, tzinfo=UTC)

OLD_KEYS = [
    "MaintenanceMode", "IsQuarantined", "Recovering", "AttachedDevice", "Annotation", "Note", "Version", "PowerCycle",
    "PowerCycleState", "LastUpdated", "Battery", "Temperature", "RunningSwarmingTask", "LaunchedSwarming", "RecoveryStart",
    "DeviceUptime", "SSHUserIP", "SuppliedDimensions", "Dimensions", "TaskRequest", "TaskStarted",
]  # fmt: skip
NEW_KEYS = [
    "RowVersion", "DeviceKind", "DownSince", "MonitorStart", "MonitorSequence", "PowerAction", "PowerStatus", "Healing",
]  # fmt: skip

FULL = Description(
    maintenance_mode="me@example.org 2026-01-02T03:04:05Z",
    is_quarantined=True,
    recovering="Too hot.",
    attached_device="adb",
    annotation=Annotation(message="Too hot.", user="labkeeper", timestamp=NOW),
    note=Annotation(message="<b>", user="me@example.org", timestamp=NOW),
    version="v1",
    power_cycle=True,
    power_cycle_state="available",
    last_updated=NOW,
    battery=91,
    temperature={"dumpsys_battery": 28.5, "cpu": 40.0},
    running_swarming_task=True,
    launched_swarming=True,
    recovery_start=NOW,
    device_uptime_s=300,
    ssh_user_ip="root@skia-sparky360-03",
    supplied_dimensions={"gpu": ["Mali"]},
    dimensions={"id": ["rack4-07"], "device_type": ["sargo"], "empty": [], "null": None},
    task_request=TaskRequest(name="task", command=["ls"], execution_timeout_ns=10**9),
    task_started=NOW,
    row_version=12,
    device_kind="android",
    down_since=NOW,
    monitor_start=NOW,
    monitor_sequence=4,
    power_action="cycle",
    power_status="off",
    healing="watching: silent for 2 of 10 minutes",
)


def test_keys_come_in_the_old_order_with_ours_behind() -> None:
    assert list(json.loads(FULL.model_dump_json())) == OLD_KEYS + NEW_KEYS


def test_no_task_request_means_no_key() -> None:
    keys = list(json.loads(Description().model_dump_json()))

    assert keys == [key for key in OLD_KEYS if key != "TaskRequest"] + NEW_KEYS


def test_every_field_survives_a_round_trip() -> None:
    assert Description.model_validate_json(FULL.model_dump_json()) == FULL


def test_null_and_empty_are_told_apart() -> None:
    description = Description.model_validate_json(
        '{"Dimensions": {}, "Temperature": null, "SuppliedDimensions": {"a": null}}'
    )

    assert description.dimensions == {}
    assert description.temperature is None
    assert description.supplied_dimensions == {"a": None}
    assert '"Temperature":null' in description.model_dump_json()


def test_maps_are_written_with_sorted_keys() -> None:
    text = Description(
        dimensions={"z": ["1"], "a": ["2"]}, temperature={"z": 1.0, "a": 2.0}
    ).model_dump_json()

    assert '{"a":["2"],"z":["1"]}' in text
    assert '{"a":2.0,"z":1.0}' in text


def test_times_are_written_with_no_more_digits_than_needed() -> None:
    assert '"LastUpdated":"2026-01-02T03:04:05.67Z"' in FULL.model_dump_json()
    assert '"LastUpdated":"0001-01-01T00:00:00Z"' in Description().model_dump_json()


def test_a_new_machine_has_an_id_and_waits_for_its_first_event() -> None:
    new = Description.new("rack4-07", now=NOW)

    assert new.dimensions == {"id": ["rack4-07"]}
    assert (new.attached_device, new.power_cycle_state, new.last_updated) == (
        "nodevice",
        "not_available",
        NOW,
    )
    assert new.is_available


def test_a_machine_in_any_trouble_is_not_available() -> None:
    troubles = ({"maintenance_mode": "x"}, {"is_quarantined": True}, {"recovering": "x"}, {"down_since": NOW})
    for trouble in troubles:
        assert not Description().model_copy(update=trouble).is_available


def test_a_change_carries_the_whole_description() -> None:
    change = MachineChange(
        id="rack4-07", version=12, kinds=[ChangeKind.RECOVERY], who="labkeeper", description=FULL
    )

    assert MachineChange.model_validate_json(change.model_dump_json()) == change
    assert json.loads(change.model_dump_json())["description"] == json.loads(FULL.model_dump_json())


def test_the_quick_way_to_a_changes_json_leads_to_the_same_json() -> None:
    who, kinds = 'a "quoted" <name>', [ChangeKind.RECOVERY, ChangeKind.DOWN]
    change = MachineChange(id="rack4-07", version=12, kinds=kinds, who=who, description=FULL)

    assert json.loads(change_json("rack4-07", kinds, who, FULL)) == json.loads(change.model_dump_json())


def test_evolving_changes_what_is_named_and_nothing_else() -> None:
    evolved = FULL.evolve({"battery": 3})

    assert evolved == FULL.model_copy(update={"battery": 3})
    assert evolved.model_dump_json() == FULL.model_copy(update={"battery": 3}).model_dump_json()
    assert FULL.battery == 91


def test_machine_ids_are_short_words_of_plain_characters() -> None:
    assert all(is_machine_id(name) for name in ("a", "skia-rpi-001", "Rack.4_07", "9", "a" * 128))
    assert not any(
        is_machine_id(name) for name in ("", "-a", ".a", "a b", "a/b", "a\n", "ä", "a" * 129, "a\x00")
    )
