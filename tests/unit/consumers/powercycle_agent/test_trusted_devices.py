"""From a configuration to a controller that answers: checked, trusted, and checked again, on devices that speak their real protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from consumers.powercycle_agent.check import check_command
from consumers.powercycle_agent.places import KNOWN_HOSTS_VARIABLE
from consumers.powercycle_agent.trust import trust_command
from tests.power_devices.edgeswitch import FakeEdgeSwitch
from tests.power_devices.mpower import FakeMPower
from tests.power_devices.ssh_device import PASSWORD, USER, SshDevice


@pytest.fixture
async def devices() -> AsyncIterator[dict[str, SshDevice]]:
    """A strip that knows only what is no longer thought safe, and a switch."""
    running: dict[str, SshDevice] = {"mpower": FakeMPower(), "edgeswitch": FakeEdgeSwitch()}
    for device in running.values():
        await device.start()
    yield running
    for device in running.values():
        await device.stop()


def lab(folder: Path, devices: dict[str, SshDevice]) -> Path:
    entries = [
        f"{kind}: {{ it: {{ address: '127.0.0.1', ssh_port: {device.port}, user: '{USER}',"
        f" password_env: 'LAB_PASSWORD', ports: {{ '{kind}-1': 1 }} }} }}"
        for kind, device in devices.items()
    ]
    path = folder / "lab.json5"
    path.write_text(f"{{ {', '.join(entries)} }}")
    return path


async def run(command: click.Command, *arguments: str) -> tuple[int, Result]:
    """In a thread: the devices live in this one's event loop."""
    result = await asyncio.to_thread(
        CliRunner().invoke, command, list(arguments), standalone_mode=False, catch_exceptions=False
    )
    return result.return_value, result


async def test_a_controller_answers_once_its_key_is_trusted(
    devices: dict[str, SshDevice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KNOWN_HOSTS_VARIABLE, str(tmp_path / "known_hosts"))
    monkeypatch.setenv("LAB_PASSWORD", PASSWORD)
    file = str(lab(tmp_path, devices))

    code, result = await run(check_command, file, "--connect")
    assert code == 1
    assert result.stdout.count("run `labkeeper power trust`") == 2

    wanted = [f"--fingerprint={device.host_key.get_fingerprint()}" for device in devices.values()]
    code, result = await run(trust_command, file, *wanted)
    assert (code, result.stdout.count(": learnt: ssh-")) == (0, 2)

    code, result = await run(check_command, file, "--connect")
    assert (code, result.stdout.count("  ok (")) == (0, 2)

    monkeypatch.setenv("LAB_PASSWORD", "wrong-horse")
    code, result = await run(check_command, file, "--connect")
    assert code == 1
    assert result.stdout.count("refuses the login") == 2
    assert "horse" not in result.output
