"""What the old command said, and its exit codes, are what they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumers.powercycle_agent.down_list import Down, choose
from tests.unit.consumers.powercycle_agent.old_command import NOWHERE, powercycle, strips


def test_ids_are_listed_sorted_and_indented(tmp_path: Path) -> None:
    conf = strips(tmp_path, b={"m3": 1, "m1": 2}, a={"m2-device": 1})
    ran = powercycle("-l", "--conf", conf)
    assert ran.code == 0
    assert ran.lines == [
        "Skipping connection test. Use --connect flag to force connection testing.",
        "Valid device IDs are:",
        "    m1",
        "    m2-device",
        "    m3",
    ]


def test_without_an_id_there_is_help(tmp_path: Path) -> None:
    ran = powercycle("--conf", strips(tmp_path, a={"m1": 1}))
    assert ran.code == 1
    assert ran.lines[1] == "No device id given to power cycle."
    assert ran.lines[2].startswith("Usage: powercycle ")
    assert any("--auto_fix" in line for line in ran.lines)


def test_a_broken_configuration_ends_it(tmp_path: Path) -> None:
    conf = tmp_path / "powercycle.json5"
    conf.write_text("{ mpower: ")
    ran = powercycle("--conf", conf, "m1")
    assert ran.code == 1
    assert ran.lines[0].startswith(f"Unable to parse config file.  Got error: {conf}")


def test_every_id_is_checked_before_anything_is_cycled(tmp_path: Path) -> None:
    conf = strips(tmp_path, a={"m1": 1})
    ran = powercycle("--conf", conf, "--url", "", "--state-dir", tmp_path / "state", "m1", "m9", "m8")
    assert ran.code == 1
    assert ran.lines == [
        "Driving the switches from here: there is no lab.",
        "Invalid device ID.",
        "Valid device IDs are:",
        "    m1",
        "Not among them: m9, m8",
    ]


def test_a_device_that_fails_is_named_and_the_others_are_tried(tmp_path: Path) -> None:
    conf = strips(tmp_path, a={"m1": 1}, b={"m2": 1})
    ran = powercycle("--conf", conf, "--url", NOWHERE, "--state-dir", tmp_path / "state", "m1", "m2-device")
    assert ran.code == 1
    assert ran.lines[0].startswith(f"Driving the switches from here: the lab cannot be reached ({NOWHERE}")
    for device in ("m1", "m2-device"):
        assert any(
            line.startswith(f"Unable to power cycle device {device}. Got error: ") for line in ran.lines
        )
    assert "Power cycle successful. All done." not in ran.lines


def test_controllers_are_tested_when_that_is_wished(tmp_path: Path) -> None:
    ran = powercycle("--conf", strips(tmp_path, a={"m1": 1}), "--connect")
    assert ran.code == 1
    assert ran.lines[0].startswith("Unable to connect to mpower/a. Got error: ")
    assert ran.lines[1] == "No device id given to power cycle."


@pytest.mark.parametrize("flag", [["--url", NOWHERE], ["--auto_fix_url", NOWHERE + "/down_bots"]])
def test_a_list_that_cannot_be_had_ends_it(tmp_path: Path, flag: list[str]) -> None:
    conf = strips(tmp_path, a={"m1": 1})
    ran = powercycle("--conf", conf, "--state-dir", tmp_path, "--auto_fix", "--direct", *flag)
    assert ran.code == 1
    assert ran.lines[-1].startswith("Could not fetch list of down bots/devices: ")


def test_without_a_lab_somebody_must_have_a_list(tmp_path: Path) -> None:
    assert powercycle("--url", "", "--auto_fix").code == 2
    assert powercycle("--auto_fix", "m1").code == 2


@pytest.mark.parametrize("flag", ["--url", "--daemon_url"])
def test_an_address_that_is_none_is_told(flag: str) -> None:
    ran = powercycle(flag, "power.example.org", "m1")
    assert ran.code == 1
    assert "is no server address" in ran.lines[0]


def test_a_user_without_rights_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of a directory")
    state = tmp_path / "file" / "state"
    conf = strips(tmp_path, a={"m1": 1})
    ran = powercycle("--conf", conf, "--url", "", "--state-dir", state, "m1")
    assert ran.code == 1
    assert ran.lines[1:] == [
        f"The switches cannot be driven from here: the journal in {state}/journal cannot be read: Not a directory"
    ]


def bot(
    bot_id: str, host: str = "jumphost-rack4", status: str = "Host Missing", *, silenced: bool = False
) -> Down:
    return Down(bot_id=bot_id, host_id=host, status=status, silenced=silenced)


def test_this_hosts_bots_are_chosen_in_order_and_silenced_ones_left_alone() -> None:
    down = [bot("b"), bot("c", "jumphost-rack5"), bot("d", silenced=True), bot("a", "rack4")]
    assert choose(down, {"rack4"}, set()) == ["b", "a"]
    assert choose(down, {"jumphost-rack4"}, set()) == ["b"]


def test_a_missing_device_goes_by_its_own_name_where_somebody_knows_that() -> None:
    down = [bot("a", status="Device Missing"), bot("b", status="Device Missing"), bot("c")]
    assert choose(down, {"rack4"}, {"a", "a-device", "b", "c", "c-device"}) == ["a-device", "b", "c"]
