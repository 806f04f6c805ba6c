"""Flags are spelled as Go's `flag` package takes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.consumers.powercycle_agent.old_command import powercycle, strips


@pytest.mark.parametrize(
    "spelled",
    [
        ["--conf", "{}", "-l"],
        ["-conf", "{}", "-l"],
        ["-conf={}", "--l"],
        ["--conf={}", "-l=true"],
        ["-l=T", "-conf", "{}"],
        ["-auto_fix=false", "-connect=0", "-power_cycle=true", "--conf", "{}", "-l=1"],
    ],
)
def test_one_dash_or_two_and_values_beside_or_behind(tmp_path: Path, spelled: list[str]) -> None:
    conf = strips(tmp_path, a={"m1": 1})
    ran = powercycle(*(each.replace("{}", str(conf)) for each in spelled))
    assert (ran.code, ran.lines[-2:]) == (0, ["Valid device IDs are:", "    m1"])


def test_a_flag_can_be_switched_off(tmp_path: Path) -> None:
    ran = powercycle("-conf", strips(tmp_path, a={"m1": 1}), "-l=false")
    assert (ran.code, ran.lines[1]) == (1, "No device id given to power cycle.")


def test_a_value_may_look_like_a_flag(tmp_path: Path) -> None:
    ran = powercycle("-conf", "-l")
    assert ran.code == 1
    assert (
        ran.lines[-1] == "Unable to parse config file.  Got error: cannot read -l: No such file or directory"
    )


@pytest.mark.parametrize(
    "wrong", [["-l=perhaps"], ["-nonsense"], ["-delay"], ["-delay", "soon"], ["-delay=-1"]]
)
def test_a_wrong_flag_is_told_and_nothing_is_done(wrong: list[str]) -> None:
    ran = powercycle(*wrong)
    assert ran.code == 2
    assert "Error: " in "\n".join(ran.lines)


def test_what_stands_behind_two_dashes_is_an_id(tmp_path: Path) -> None:
    ran = powercycle("-conf", strips(tmp_path, a={"m1": 1}), "-url=", "-state-dir", tmp_path, "--", "-l")
    assert ran.code == 1
    assert "Invalid device ID." in ran.lines


@pytest.mark.parametrize("spelled", ["-h", "-help", "--help"])
def test_help_is_an_answer(spelled: str) -> None:
    assert powercycle(spelled).code == 0
