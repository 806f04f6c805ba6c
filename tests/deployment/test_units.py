"""systemd takes the units, and finds them well shut in."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from consumers.powercycle_agent.places import STATE_VARIABLE, SYSTEM_STATE
from consumers.powercycle_agent.switching import Patience
from tests.deployment.places import INFRA, complaint_about

UNITS = INFRA / "systemd"
MONITOR = "labkeeper-monitor.service"
AGENT = "labkeeper-powercycle-agent.service"
FACADE = "labkeeper@facade.service"
SERVICES = ["writer", "relay", "watchdog", "facade", "fleet-stats", "notifier", "swarming-poller"]
MOST_EXPOSED = {MONITOR: 20, AGENT: 15, "labkeeper@writer.service": 15, FACADE: 15}
"""In tenths, of 100; an ordinary unit has 96. The monitor needs devices."""


@pytest.fixture(scope="session")
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("needs systemd-analyze: on Debian it is in the package systemd")
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as on a host, with a program that is there."""
    for name in MOST_EXPOSED:
        source = name if (UNITS / name).exists() else "labkeeper@.service"
        text = (UNITS / source).read_text("utf-8").replace("/opt/labkeeper/bin/labkeeper", "/bin/true")
        (tmp_path / name).write_text(text, "utf-8")
    for name in (FACADE, AGENT):
        shutil.copytree(UNITS / f"{name}.d", tmp_path / f"{name}.d")
    return tmp_path


@pytest.mark.parametrize("unit", MOST_EXPOSED)
def test_systemd_understands_every_line(analyze: str, installed: Path, unit: str) -> None:
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(installed / unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert str(installed) not in done.stderr  # warnings name the file and line


@pytest.mark.parametrize(("unit", "most"), MOST_EXPOSED.items())
def test_a_unit_can_do_little_harm(analyze: str, installed: Path, unit: str, most: int) -> None:
    command = [
        analyze,
        "security",
        "--offline=true",
        "--no-pager",
        f"--threshold={most}",
        str(installed / unit),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def service_of(unit: str) -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    parser.read(UNITS / unit, "utf-8")
    return dict(parser["Service"])


@pytest.mark.parametrize("unit", [MONITOR, AGENT, "labkeeper@.service"])
def test_a_unit_comes_back_and_has_few_rights(unit: str) -> None:
    service = service_of(unit)

    assert service["Restart"] == "always"
    assert service.get("DynamicUser") == (None if unit == AGENT else "yes")
    assert service["StateDirectory"]
    assert service["NoNewPrivileges"] == "yes"


def test_a_secret_is_given_to_the_one_that_needs_it() -> None:
    assert service_of(MONITOR)["LoadCredential"].startswith("token:")
    assert "LoadCredential" not in service_of("labkeeper@.service")

    assert "LoadCredential" not in service_of(AGENT)
    for drop_in, variable in (
        (f"{FACADE}.d/tokens.conf", "LABKEEPER_TOKENS"),
        (f"{AGENT}.d/token.conf", "LABKEEPER_TOKEN_FILE"),
    ):
        service = service_of(drop_in)
        name, _, _ = service["LoadCredential"].partition(":")
        assert service["Environment"] == f"{variable}=%d/{name}"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_of_the_template_is_a_command(service: str) -> None:
    line = service_of("labkeeper@.service")["ExecStart"].replace("%i", service)

    assert complaint_about(line.removesuffix(" $SERVICE_OPTIONS").split()[1:]) == ""


def test_the_monitor_s_options_exist(tmp_path: Path) -> None:
    words = service_of(MONITOR)["ExecStart"].removesuffix(" $MONITOR_OPTIONS").split()[1:]

    assert complaint_about([str(tmp_path) if word.startswith("${") else word for word in words]) == ""
    assert complaint_about(["monitor", "--no-such-option"]) != ""


def test_the_power_agent_is_given_the_time_to_switch_ports_on() -> None:
    service = service_of(AGENT)

    assert float(service["TimeoutStopSec"]) > 2 * Patience().ending
    assert service["KillMode"] == "mixed"  # else what it runs for a port would be ended as well
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert complaint_about(service["ExecStart"].removesuffix(" $AGENT_OPTIONS").split()[1:]) == ""


def test_the_power_agent_s_state_is_where_the_command_of_its_host_looks() -> None:
    text = (UNITS / AGENT).read_text("utf-8")
    user, group = (service_of(AGENT)[key] for key in ("User", "Group"))
    kind, name, *_ = (UNITS / "labkeeper-powercycle.sysusers").read_text("utf-8").splitlines()[-1].split()

    assert SYSTEM_STATE.as_posix() == f"/var/lib/{service_of(AGENT)['StateDirectory']}"
    assert f"Environment={STATE_VARIABLE}=%S/{service_of(AGENT)['StateDirectory']}\n" in text
    assert service_of(AGENT)["StateDirectoryMode"] == "2770"
    assert (kind, name) == ("u", user)
    assert user == group
