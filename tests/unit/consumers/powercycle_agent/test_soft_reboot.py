"""A machine is asked to reboot over real SSH, and what became of it is told as it is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from consumers.powercycle_agent.drivers.settings import SoftReboot
from consumers.powercycle_agent.soft_reboot import BOOT_ID, REBOOT, Outcome, soft_reboot
from tests.unit.consumers.powercycle_agent.machine import FOR_GOOD, Machine, key

pytestmark = pytest.mark.slow

HOST = "127.0.0.1"


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    async with Machine().up() as machine:
        yield machine


async def ask(settings: SoftReboot) -> Outcome:
    return await soft_reboot(HOST, settings, ask_every_s=0.01)


async def test_a_machine_that_is_back_with_another_boot_id_has_rebooted(
    machine: Machine, tmp_path: Path
) -> None:
    outcome = await ask(machine.settings(tmp_path))
    assert outcome.rebooted
    assert re.fullmatch(r"127\.0\.0\.1 rebooted in \d+ s", outcome.text)
    assert machine.commands == [BOOT_ID, REBOOT, BOOT_ID]
    assert machine.dark == 0


async def test_a_reboot_command_that_ends_well_first_is_as_good(machine: Machine, tmp_path: Path) -> None:
    def reboot() -> int:
        machine.reboot(dark=0)
        return 0

    machine.on_reboot = reboot
    assert (await ask(machine.settings(tmp_path))).rebooted


async def test_a_machine_that_goes_on_as_if_nothing_was_said_has_not_rebooted(
    machine: Machine, tmp_path: Path
) -> None:
    machine.on_reboot = lambda: 0
    outcome = await ask(machine.settings(tmp_path, wait_s=1))
    assert outcome == Outcome(rebooted=False, text="127.0.0.1 was asked to reboot, and has not after 1 s")
    assert machine.commands.count(REBOOT) == 1


async def test_a_lost_connection_is_no_reboot(machine: Machine, tmp_path: Path) -> None:
    machine.on_reboot = lambda: None
    outcome = await ask(machine.settings(tmp_path, wait_s=1))
    assert outcome == Outcome(rebooted=False, text="127.0.0.1 was asked to reboot, and has not after 1 s")


async def test_a_machine_that_stays_away_has_not_rebooted(machine: Machine, tmp_path: Path) -> None:
    machine.on_reboot = lambda: machine.reboot(dark=FOR_GOOD)
    outcome = await ask(machine.settings(tmp_path, wait_s=1))
    assert not outcome.rebooted
    assert outcome.text.startswith(
        "127.0.0.1 was asked to reboot, and is not back after 1 s: 127.0.0.1 cannot be reached over SSH: "
    )


async def test_a_machine_that_does_not_let_us_in_is_not_asked(machine: Machine, tmp_path: Path) -> None:
    outcome = await ask(machine.settings(tmp_path, user="stranger"))
    assert not outcome.rebooted
    assert outcome.text.startswith("127.0.0.1 refuses the login over SSH (Permission denied")
    assert machine.commands == []


async def test_a_machine_with_another_host_key_is_not_asked(machine: Machine, tmp_path: Path) -> None:
    outcome = await ask(machine.settings(tmp_path, host="impostor"))
    assert not outcome.rebooted
    assert outcome.text.startswith("the host key of 127.0.0.1 is not a known one")
    assert machine.commands == []


async def test_a_machine_nobody_knows_the_key_of_is_not_asked(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    settings = machine.settings(tmp_path).model_copy(update={"known_hosts": None})
    assert "the host key of 127.0.0.1 is not a known one" in (await ask(settings)).text


async def test_the_ssh_configuration_of_the_agents_user_counts(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = machine.settings(tmp_path)
    folder = tmp_path / ".ssh"
    folder.mkdir()
    (folder / "config").write_text(
        f"Host rack4-07\n HostName {HOST}\n Port {given.port}\n User chrome-bot\n IdentityFile {given.key_file}\n"
    )
    (folder / "known_hosts").write_text(f"[{HOST}]:{given.port} {key('host').export_public_key().decode()}")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (await soft_reboot("rack4-07", SoftReboot(), ask_every_s=0.01)).rebooted


async def test_a_machine_that_will_not_reboot_says_why(machine: Machine, tmp_path: Path) -> None:
    machine.on_reboot = lambda: 1
    assert (await ask(machine.settings(tmp_path))).text == (
        "127.0.0.1 will not reboot: `sudo -n /sbin/reboot` ended with status 1: 'sudo: a password is required'"
    )


@pytest.mark.parametrize("boot_id", ["", "\x1b[2J", "x" * 100_000, "two\nlines here"])
async def test_a_machine_without_a_boot_id_is_not_asked(
    machine: Machine, tmp_path: Path, boot_id: str
) -> None:
    machine.boot_id = boot_id
    outcome = await ask(machine.settings(tmp_path))
    assert outcome.text.startswith("127.0.0.1 does not tell its boot id")
    assert len(outcome.text) < 400
    assert outcome.text.isprintable()
    assert machine.commands == [BOOT_ID]


async def test_a_machine_that_never_answers_is_given_up(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.powercycle_agent.soft_reboot._CONNECT_S", 0.2)

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    outcome = await ask(machine.settings(tmp_path).model_copy(update={"port": port}))
    server.close()
    await server.wait_closed()
    assert outcome == Outcome(rebooted=False, text="127.0.0.1 does not answer over SSH")


async def test_a_missing_key_file_is_said(machine: Machine, tmp_path: Path) -> None:
    settings = machine.settings(tmp_path).model_copy(update={"key_file": str(tmp_path / "gone")})
    assert "cannot be reached over SSH" in (await ask(settings)).text


async def test_a_cancelled_request_ends_at_once(machine: Machine, tmp_path: Path) -> None:
    machine.on_reboot = lambda: machine.reboot(dark=FOR_GOOD)
    task = asyncio.create_task(ask(machine.settings(tmp_path)))
    async with asyncio.timeout(10):
        while REBOOT not in machine.commands:
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
