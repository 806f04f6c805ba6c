from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.producers.labkeeper.command_line import Result, labkeeper, labkeeper_beside
from tests.unit.producers.labkeeper.facade_double import FacadeDouble
from tests.unit.producers.labkeeper.fleet import machine

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_printed_for_each_shell(shell: str) -> None:
    result = labkeeper("completion", shell)

    assert result.code == 0
    assert f"_LABKEEPER_COMPLETE={shell}_complete" in result.out
    assert f"labkeeper completion {shell} > " in labkeeper("completion", "--help").out


def test_the_zsh_script_begins_with_what_makes_zsh_load_it() -> None:
    assert labkeeper("completion", "zsh").lines[0] == "#compdef labkeeper"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_takes_its_script() -> None:
    checked = subprocess.run(
        ["bash", "-n"],
        input=labkeeper("completion", "bash").raw,
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert (checked.returncode, checked.stderr) == (0, b"")


def test_another_shell_is_refused_with_those_there_are() -> None:
    result = labkeeper("completion", "powershell")

    assert result.code == 2
    assert "'bash', 'zsh', 'fish'" in result.err


def _variables(typed: str) -> dict[str, str]:
    words = f"labkeeper {typed}".split(" ")
    return {
        "_LABKEEPER_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }


def _values(result: Result) -> list[str]:
    return [line.partition(",")[2] for line in result.lines]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("mac", ["machines"]),
        ("s", ["status", "silences", "simulator", "swarming-poller", "schemas"]),
        ("machines h", ["history"]),
        ("machines list --out", ["--output"]),
        ("machines list --output ", ["table", "json", "name"]),
        ("machines set-device a", ["adb"]),
        ("power drivers edge", ["edgeswitch"]),
    ],
)
def test_commands_options_and_choices_complete(typed: str, offered: list[str]) -> None:
    result = labkeeper(**_variables(typed), LABKEEPER_URL="http://127.0.0.1:1")

    assert [value for value in _values(result) if value] == offered


def test_controllers_complete_from_the_file_that_was_named(tmp_path: Path) -> None:
    file = tmp_path / "rack.json5"
    entry = "{ address: '10.0.0.1', user: 'u', ports: {} }"
    plug = "{ address: 'http://10.0.0.2', ports: {} }"
    file.write_text(
        f"{{ edgeswitch: {{ sw1: {entry} }}, mpower: {{ strip: {entry} }}, tasmota: {{ s: {plug} }} }}"
    )

    assert _values(labkeeper(**_variables(f"power trust {file} s"))) == ["sw1", "strip"]
    assert _values(labkeeper(**_variables(f"power trust {file} mp"))) == ["mpower/strip"]
    assert labkeeper(**_variables(f"power trust {tmp_path} s")).lines in ([], [""])


async def test_names_of_machines_complete_from_the_facade(facade: FacadeDouble) -> None:
    facade.add(machine("rack4-07"), machine("rack4-08"), machine("other", recovering="near rack4"))

    result = await labkeeper_beside(**_variables("machines show rack4"), LABKEEPER_URL=facade.url)

    assert _values(result) == ["rack4-07", "rack4-08"]
    assert ("q", "rack4") in facade.asked[0].query


async def test_completion_asks_the_facade_of_the_configuration_file(
    facade: FacadeDouble, tmp_path: Path
) -> None:
    facade.add(machine("rack4-07"))
    file = tmp_path / "labkeeper.toml"
    file.write_text(f'url = "{facade.url}"')

    result = await labkeeper_beside(**_variables("machines delete r"), LABKEEPER_CONFIG=str(file))

    assert _values(result) == ["rack4-07"]


async def test_without_a_facade_nothing_is_offered_and_nothing_is_said() -> None:
    for url in ("http://127.0.0.1:1", "no address"):
        result = await labkeeper_beside(**_variables("machines show rack4"), LABKEEPER_URL=url)
        assert (result.out.strip(), result.err) == ("", "")


async def test_a_mistake_in_the_configuration_file_does_not_spoil_the_line(tmp_path: Path) -> None:
    file = tmp_path / "labkeeper.toml"
    file.write_text("urk = 1")

    result = await labkeeper_beside(**_variables("mac"), LABKEEPER_CONFIG=str(file))

    assert (_values(result), result.err) == (["machines"], "")


async def test_completion_works_in_a_process_of_its_own() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "producers.labkeeper"),
        env={**os.environ, **_variables("comp"), "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()

    assert out == b"plain,completion\n"
