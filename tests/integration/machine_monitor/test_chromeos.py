from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from producers.machine_monitor.probes import ssh as ssh_module
from producers.machine_monitor.probes.chromeos import ChromeosProbe
from producers.machine_monitor.probes.protocol import ProbeFailed
from producers.machine_monitor.probes.ssh import SshClient, SshSettings
from schemas.description import Description
from schemas.event import ChromeOS

pytestmark = pytest.mark.integration

LSB_RELEASE = (
    "CHROMEOS_RELEASE_VERSION=13729.56.0\n"
    "CHROMEOS_RELEASE_CHROME_MILESTONE=89\n"
    "CHROMEOS_RELEASE_TRACK=stable-channel\n"
)
ANSWERS = {"cat /proc/uptime": "1234.5 5678.9\n", "cat /etc/lsb-release": LSB_RELEASE}
DEVICE = Description(attached_device="ssh", ssh_user_ip="root@127.0.0.1")

Behave = Callable[["Device", asyncssh.SSHServerProcess[str]], None]


@dataclass
class Device:
    """A ChromeOS device: an SSH server that knows a few commands."""

    answers: dict[str, str]
    commands: list[str]
    settings: SshSettings
    connection_lost: asyncio.Event
    behave: Behave | None = None

    async def serve(self, process: asyncssh.SSHServerProcess[str]) -> None:
        assert process.command is not None
        self.commands.append(process.command)
        if self.behave is not None:
            self.behave(self, process)
            return
        answer = self.answers.get(process.command)
        if answer is None:
            process.stderr.write("no such file\n")
            process.exit(1)
            return
        process.stdout.write(answer)
        process.exit(0)


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Device]:
    async with running_device(tmp_path) as found:
        yield found


@asynccontextmanager
async def running_device(folder: Path) -> AsyncIterator[Device]:
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    user_key = asyncssh.generate_private_key("ssh-ed25519")
    user_key.write_private_key(folder / "id")
    user_key.write_public_key(folder / "authorized_keys")
    device = Device(dict(ANSWERS), [], SshSettings(), asyncio.Event())
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        authorized_client_keys=str(folder / "authorized_keys"),
        process_factory=device.serve,
    )
    port = server.get_port()
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}")
    device.settings = SshSettings(known_hosts, folder / "id", port)
    try:
        yield device
    finally:
        server.close()
        await server.wait_closed()


def probe(device: Device, folder: Path) -> ChromeosProbe:
    return ChromeosProbe(SshClient(device.settings), address_file=folder / "ssh_machine.json")


async def test_a_known_device_answers_and_tasks_learn_its_address(device: Device, tmp_path: Path) -> None:
    assert await probe(device, tmp_path).interrogate(DEVICE) == ChromeOS(
        channel="stable-channel",
        milestone="89",
        release_version="13729.56.0",
        uptime_ns=1_234_500_000_000,
    )
    address_file = tmp_path / "ssh_machine.json"
    assert json.loads(address_file.read_text())["user_ip"] == "root@127.0.0.1"
    assert address_file.stat().st_mode & 0o777 == 0o644


async def test_a_device_with_another_host_key_is_refused(device: Device, tmp_path: Path) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    assert device.settings.known_hosts is not None
    device.settings.known_hosts.write_text(f"[127.0.0.1]:{device.settings.port} {other}")
    with pytest.raises(ProbeFailed, match="host key is not in known_hosts"):
        await probe(device, tmp_path).interrogate(DEVICE)
    assert device.commands == []
    assert not (tmp_path / "ssh_machine.json").exists()


async def test_a_device_that_nobody_vouches_for_is_refused(device: Device, tmp_path: Path) -> None:
    assert device.settings.known_hosts is not None
    device.settings.known_hosts.write_text("")
    with pytest.raises(ProbeFailed, match="host key is not in known_hosts"):
        await probe(device, tmp_path).interrogate(DEVICE)


async def test_a_device_that_does_not_know_us_is_missing(device: Device, tmp_path: Path) -> None:
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "id")
    with pytest.raises(ProbeFailed, match=r"ssh root@127\.0\.0\.1: "):
        await probe(device, tmp_path).interrogate(DEVICE)


async def test_a_host_that_is_no_chromeos_device_is_missing(device: Device, tmp_path: Path) -> None:
    device.answers["cat /etc/lsb-release"] = "DISTRIB_ID=Ubuntu\n"
    with pytest.raises(ProbeFailed, match="no ChromeOS device"):
        await probe(device, tmp_path).interrogate(DEVICE)
    assert not (tmp_path / "ssh_machine.json").exists()


async def test_a_failing_command_is_told(device: Device, tmp_path: Path) -> None:
    del device.answers["cat /etc/lsb-release"]
    with pytest.raises(ProbeFailed, match='failed with stderr: "no such file": exit status 1'):
        await probe(device, tmp_path).interrogate(DEVICE)


async def test_an_address_file_that_cannot_be_written_is_a_failure(device: Device, tmp_path: Path) -> None:
    with pytest.raises(ProbeFailed, match=r"ssh_machine\.json cannot be written"):
        await probe(device, tmp_path / "missing").interrogate(DEVICE)


async def test_a_device_that_babbles_is_cut_off(device: Device, tmp_path: Path) -> None:
    device.answers["cat /proc/uptime"] = "1" * 300_000
    with pytest.raises(ProbeFailed, match="wrote more than 65536 bytes"):
        await probe(device, tmp_path).interrogate(DEVICE)


async def test_a_device_that_dawdles_is_not_waited_for(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_module, "COMMAND_TIME", ssh_module.COMMAND_TIME / 40)
    device.behave = lambda _device, _process: None
    with pytest.raises(ProbeFailed, match=r"no answer within 0\.5 s"):
        await probe(device, tmp_path).interrogate(DEVICE)


async def test_nobody_at_the_address_is_a_missing_device(device: Device, tmp_path: Path) -> None:
    nobody = SshClient(SshSettings(device.settings.known_hosts, device.settings.identity, 1))
    with pytest.raises(ProbeFailed, match=r"ssh root@127\.0\.0\.1: "):
        await ChromeosProbe(nobody, address_file=tmp_path / "x").interrogate(DEVICE)


async def test_without_an_address_nothing_is_run(device: Device, tmp_path: Path) -> None:
    with pytest.raises(ProbeFailed, match="no SSHUserIP"):
        await probe(device, tmp_path).interrogate(Description(attached_device="ssh"))
    assert device.commands == []


async def test_a_device_is_rebooted(device: Device, tmp_path: Path) -> None:
    device.answers["reboot"] = ""
    await probe(device, tmp_path).reboot(DEVICE)
    assert device.commands == ["reboot"]


async def test_a_device_that_hangs_up_is_rebooting(device: Device, tmp_path: Path) -> None:
    device.behave = lambda _device, process: process.channel.get_connection().abort()
    await probe(device, tmp_path).reboot(DEVICE)
    assert device.commands == ["reboot"]


async def test_a_device_that_refuses_to_reboot_is_told(device: Device, tmp_path: Path) -> None:
    with pytest.raises(ProbeFailed, match="exit status 1"):
        await probe(device, tmp_path).reboot(DEVICE)
