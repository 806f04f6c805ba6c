"""`labkeeper power check` and `labkeeper power drivers`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from consumers.powercycle_agent.check import ask_all, check_command
from consumers.powercycle_agent.driver_listing import drivers_command
from consumers.powercycle_agent.drivers import mpower
from consumers.powercycle_agent.drivers.errors import NotInstalled, Unreachable
from consumers.powercycle_agent.drivers.protocol import PowerDriver
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.inventory import Controller
from consumers.powercycle_agent.journal import Intent, Journal
from consumers.powercycle_agent.places import KNOWN_HOSTS_VARIABLE, STATE_VARIABLE
from consumers.powercycle_agent.registry import Registry
from pipeline.command import CommandFailed
from tests.unit.consumers.powercycle_agent.fake_power import order
from tests.unit.consumers.powercycle_agent.kinds import Obedient, StripSettings, strip, switch

GOOD = """{
  edgeswitch: { sw1: { address: "10.0.0.2", user: "u", delay: 2.5, ports: { "rack4-07": 7, "rack4-06": 6 } } },
  mpower: { strip: { address: "10.0.0.1", ports: {} } },
}"""
MIXED = GOOD.replace('"10.0.0.1"', "5")


class Silent(Obedient):
    """Does not answer, and says so with words that would paint a terminal red."""

    async def probe(self) -> None:
        raise Unreachable("10.0.0.1 does not answer:\x1b[31m\nno")


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command on a file with this text; kinds are those of the tests, and strips do not answer."""
    monkeypatch.setenv(KNOWN_HOSTS_VARIABLE, str(tmp_path / "known_hosts"))
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    registry = Registry({"edgeswitch": switch(), "mpower": strip(lambda *_: Silent())})
    monkeypatch.setattr(Registry, "installed", lambda: registry)

    def run(text: str, *arguments: str) -> Result:
        path = tmp_path / "lab.json5"
        path.write_text(text)
        path.chmod(0o600)
        return invoke(check_command, [str(path), *arguments])

    return run


def invoke(command: click.Command, arguments: list[str]) -> Result:
    result = CliRunner().invoke(command, arguments, standalone_mode=False, catch_exceptions=False)
    result.exit_code = result.return_value
    return result


def test_a_good_file_is_shown_port_by_port(check: Callable[..., Result]) -> None:
    result = check(GOOD)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "CONTROLLER      MACHINE   PORT  OFF FOR  REBOOTS FIRST",
        "edgeswitch/sw1  rack4-06  6     2.5 s    yes",
        "edgeswitch/sw1  rack4-07  7     2.5 s    yes",
        "mpower/strip    -         -     10 s     no",
    ]


def test_ports_are_shown_as_people_count(check: Callable[..., Result]) -> None:
    text = "{ mpower: { strip: { address: 'x', ports: { 'rack4-10': 3, 'rack4-9': 2, 'rack4-1': 1 } } } }"
    result = check(text, "--output", "json")
    assert list(json.loads(result.stdout)["controllers"][0]["ports"]) == ["rack4-1", "rack4-9", "rack4-10"]


def test_a_file_that_takes_the_controller_from_a_port_that_is_off_is_warned_of(
    check: Callable[..., Result], tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal")
    for port, label in (("7", "sw0"), ("9", "gone")):  # the first has only another name now
        command = order(f"rack4-0{port}")
        journal.begin(
            Intent(command=command, agent="a", controller=f"edgeswitch/{label}", port=port)
        ).release()
    result = check(GOOD)
    assert result.exit_code == 0
    assert result.stderr.startswith(
        "warning: port 9 of rack4-09 may be off, and edgeswitch/gone is not in the configuration: put that back, "
    )
    assert result.stderr.count("\n") == 1
    (warning,) = json.loads(check(GOOD, "--output", "json").stdout)["warnings"]
    assert warning.endswith(f"{command.id}.power")


def test_a_rack_without_controllers_is_fine(check: Callable[..., Result]) -> None:
    result = check("{}")
    assert (result.exit_code, result.stdout) == (0, "There are no controllers.\n")


def test_a_package_that_a_driver_misses_is_told_before_anything_is_connected(
    check: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def opener(*_: Any) -> Any:
        raise NotInstalled("strips need the package pystrip: pip install pystrip")

    registry = Registry({"mpower": strip(opener)})
    monkeypatch.setattr(Registry, "installed", lambda: registry)
    result = check("{ mpower: { a: { address: 'x', ports: {} }, b: { address: 'y', ports: {} } } }")
    assert result.exit_code == 0
    told = "warning: mpower/a, mpower/b: strips need the package pystrip: pip install pystrip\n"
    assert result.stderr == told


def test_a_file_that_is_wrong_as_a_whole_has_its_faults_listed(
    check: Callable[..., Result], tmp_path: Path
) -> None:
    result = check("{ a: {}, b: {} }")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert [line.split(": there is")[0] for line in result.stderr.splitlines()] == [
        f"{tmp_path}/lab.json5:1: a",
        f"{tmp_path}/lab.json5:1: b",
    ]
    document = json.loads(check("{ a: {} }", "--output", "json").stdout)
    assert len(document["problems"]) == 1


def test_a_broken_controller_is_shown_beside_the_others(check: Callable[..., Result], tmp_path: Path) -> None:
    result = check(MIXED)
    assert result.exit_code == 2
    assert "edgeswitch/sw1  rack4-07  7     2.5 s     yes" in result.stdout
    assert "mpower/strip    -         -     in error  -" in result.stdout
    assert result.stderr == f"{tmp_path}/lab.json5:3: mpower/strip: address: should be a valid string\n"


def test_a_readable_password_is_a_warning_only(check: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "open.json5"
    path.write_text("{ edgeswitch: { s: { address: 'a', user: 'u', password: 'hunter2', ports: {} } } }")
    path.chmod(0o644)
    result = invoke(check_command, [str(path)])
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ")
    assert "chmod" in result.stderr


def test_controllers_are_asked_and_their_answers_told(check: Callable[..., Result]) -> None:
    result = check(GOOD, "--connect")
    assert result.exit_code == 1
    assert "\x1b" not in result.output
    answers = result.stdout.partition("\n\n")[2].splitlines()
    assert answers[0].split() == ["CONTROLLER", "ANSWER"]
    assert answers[1].startswith("edgeswitch/sw1  ok (")
    assert answers[2] == r"mpower/strip    10.0.0.1 does not answer:\x1b[31m\nno"


def test_all_of_it_is_there_for_programs(check: Callable[..., Result], tmp_path: Path) -> None:
    document = json.loads(check(GOOD, "--connect", "-o", "json").stdout)
    assert document["file"] == str(tmp_path / "lab.json5")
    first, second = document["controllers"]
    assert first["answer"].pop("seconds") >= 0
    assert first == {
        "name": "edgeswitch/sw1",
        "ports": {"rack4-06": "6", "rack4-07": "7"},
        "off_for_s": 2.5,
        "reboots_first": True,
        "problem": "",
        "answer": {"ok": True, "reason": ""},
    }
    assert second["answer"]["reason"].startswith("10.0.0.1 does not answer")
    assert json.loads(check(GOOD, "-o", "json").stdout)["controllers"][0]["answer"] is None


def test_a_broken_controller_is_not_asked_but_the_others_are(check: Callable[..., Result]) -> None:
    result = check(MIXED, "--connect")
    assert result.exit_code == 2
    assert "edgeswitch/sw1  ok (" in result.stdout


def strips(count: int, driver: Callable[[], PowerDriver]) -> list[Controller]:
    settings = StripSettings(address="a", ports={})
    return [Controller("mpower", f"s{n}", {}, strip(lambda *_: driver()), settings) for n in range(count)]


async def test_many_controllers_are_asked_at_once_but_not_all(tmp_path: Path) -> None:
    most = running = closed = 0

    class Slow(Obedient):
        async def probe(self) -> None:
            nonlocal most, running
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

        async def close(self) -> None:
            nonlocal closed
            closed += 1

    answers = await ask_all(strips(100, Slow), Secrets({}, tmp_path))
    assert list(answers) == [f"mpower/s{n}" for n in range(100)]
    assert not any(answer.reason for answer in answers.values())
    assert (most, closed) == (32, 100)


async def test_a_controller_that_never_answers_is_given_up(tmp_path: Path) -> None:
    class Stuck(Obedient):
        async def probe(self) -> None:
            await asyncio.Event().wait()

    answers = await ask_all(strips(1, Stuck), Secrets({}, tmp_path), limit_s=1)
    assert answers["mpower/s0"].reason == "no answer within 1 s"


async def test_a_driver_that_is_broken_hides_nobody_elses_answer(tmp_path: Path) -> None:
    class Broken(Obedient):
        async def probe(self) -> None:
            raise ZeroDivisionError("oh")

    first, second = strips(2, Broken)
    controllers = [first, replace(second, driver=strip())]
    answers = await ask_all(controllers, Secrets({}, tmp_path))
    assert [answers[name].reason for name in ("mpower/s0", "mpower/s1")] == [
        "the driver failed: ZeroDivisionError: oh",
        "",
    ]


def test_the_kinds_are_listed(check: Callable[..., Result]) -> None:
    result = invoke(drivers_command, [])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "KIND        READS BACK  OFF FOR  REBOOTS FIRST  PACKAGE",
        "edgeswitch  yes         5 s      yes",
        "mpower      yes         10 s     no",
    ]
    listed: list[dict[str, Any]] = json.loads(invoke(drivers_command, ["-o", "json"]).stdout)
    assert [line["kind"] for line in listed] == ["edgeswitch", "mpower"]


def test_the_keys_of_a_kind_are_listed(check: Callable[..., Result]) -> None:
    result = invoke(drivers_command, ["mpower"])
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["KEY", "DEFAULT"],
        ["address", "required"],
        ["ports", "required"],
        ["delay", "-"],
        ["soft_reboot", "-"],
        ["user", '""'],
    ]
    assert "Machine id → port." in result.stdout
    schema = json.loads(invoke(drivers_command, ["mpower", "-o", "json"]).stdout)
    assert schema["required"] == ["ports", "address"]
    with pytest.raises(CommandFailed, match=r"did you mean mpower\?"):
        invoke(drivers_command, ["mpowr"])


def test_keys_that_only_the_whole_entry_asks_for_are_listed_as_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Registry, "installed", lambda: Registry({"mpower": mpower.KIND}))
    listed = [line.split()[:2] for line in invoke(drivers_command, ["mpower"]).stdout.splitlines()]
    assert listed[1:4] == [["address", "required"], ["ports", "required"], ["user", "required"]]
    schema = json.loads(invoke(drivers_command, ["mpower", "-o", "json"]).stdout)
    assert sorted(schema["required"]) == ["address", "ports", "user"]


def test_a_broken_kind_is_listed_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "zaps-2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zaps\nVersion: 2\n")
    (info / "entry_points.txt").write_text("[labkeeper.power_drivers]\nzap = no_such_module_here:KIND\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    result = invoke(drivers_command, [])
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("zap ")]
    assert line.split() == ["zap", "broken", "-", "-", "zaps", "2"]
    assert "'zap' of zaps 2 (no_such_module_here:KIND) cannot be loaded: ModuleNotFoundError" in result.stderr
