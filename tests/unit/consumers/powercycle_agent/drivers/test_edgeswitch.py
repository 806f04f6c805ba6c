from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from pydantic import ValidationError

from consumers.powercycle_agent.drivers.edgeswitch import KIND, EdgeSwitchDriver, EdgeSwitchSettings
from consumers.powercycle_agent.drivers.errors import DriverError, NotConfirmed, TurnedAway, UnknownPort
from consumers.powercycle_agent.drivers.protocol import PortState
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.terminal import table
from tests.power_devices.edgeswitch import Cli, FakeEdgeSwitch, FakeUniFi
from tests.power_devices.ssh_device import PASSWORD, USER

pytestmark = pytest.mark.slow

MANY_TRIES = 50

ENTER = ["enable", "terminal length 0"]


def set_mode(port: int, mode: str) -> list[str]:
    """What is typed for it."""
    return [
        "configure",
        f"interface 0/{port}",
        f"poe opmode {mode}",
        "exit",
        "exit",
        f"show poe port 0/{port}",
    ]


def settings(**keys: Any) -> EdgeSwitchSettings:
    return EdgeSwitchSettings.model_validate(
        {"address": "127.0.0.1", "user": USER, "ports": {"skia-rpi-001": 3}} | keys
    )


Driven = Callable[..., EdgeSwitchDriver]


@asynccontextmanager
async def driven(switch: FakeEdgeSwitch, folder: Path, **keys: Any) -> AsyncIterator[EdgeSwitchDriver]:
    await switch.start()
    entry = settings(ssh_port=switch.port, **{"confirm_s": 0.5, "password": PASSWORD, **keys})
    driver = EdgeSwitchDriver(entry, Secrets({}, switch.write_known_hosts(folder)))
    try:
        yield driver
    finally:
        await driver.close()
        await switch.stop()


async def test_a_switch_is_told_exactly_this(tmp_path: Path) -> None:
    switch = FakeEdgeSwitch()
    async with driven(switch, tmp_path) as driver:
        await driver.off("3")
        await driver.on("3")
    assert switch.commands == [
        *ENTER,
        *set_mode(3, "shutdown"),
        "show poe status 0/3",
        *set_mode(3, "auto"),
    ]
    assert switch.logins == 1


async def test_a_unifi_switch_is_told_the_same_behind_its_telnet(tmp_path: Path) -> None:
    """W39: not the probe alone takes the detour."""
    switch = FakeUniFi()
    async with driven(switch, tmp_path) as driver:
        await driver.probe()
        await driver.off("8")
        await driver.on("8")
    assert switch.commands == [
        "telnet 127.0.0.1",
        *ENTER,
        "show poe status all",
        *set_mode(8, "shutdown"),
        "show poe status 0/8",
        *set_mode(8, "auto"),
    ]


@pytest.mark.parametrize("make", [FakeEdgeSwitch, FakeUniFi])
async def test_pages_are_turned_where_paging_cannot_be_switched_off(
    tmp_path: Path, make: type[FakeEdgeSwitch]
) -> None:
    switch = make()
    switch.pages = True
    async with driven(switch, tmp_path) as driver:
        await driver.probe()
        await driver.off("24")
        assert await driver.status("24") is PortState.OFF
        assert await driver.status("23") is PortState.ON
    assert switch.states["24"] is PortState.OFF


async def test_enable_may_want_a_password_of_its_own(tmp_path: Path) -> None:
    switch = FakeEdgeSwitch()
    switch.enable_password = "enable-me"
    async with driven(switch, tmp_path, enable_password="enable-me") as driver:
        await driver.off("3")
    assert switch.states["3"] is PortState.OFF


async def test_a_switch_of_a_stack_has_a_slot_of_its_own(tmp_path: Path) -> None:
    switch = FakeEdgeSwitch()
    switch.slot = "2"
    async with driven(switch, tmp_path, slot=2) as driver:
        await driver.off("3")
        assert await driver.status("3") is PortState.OFF
    assert switch.states["3"] is PortState.OFF


async def test_a_telnet_that_wants_a_login_gets_the_switchs(tmp_path: Path) -> None:
    switch = FakeUniFi()
    switch.telnet_password = PASSWORD
    async with driven(switch, tmp_path) as driver:
        await driver.off("3")
    assert switch.states["3"] is PortState.OFF


async def test_a_telnet_that_refuses_the_login_is_asked_once(tmp_path: Path) -> None:
    switch = FakeUniFi()
    switch.telnet_password = "another one"
    async with driven(switch, tmp_path) as driver:
        with pytest.raises(TurnedAway, match="refuses the password"):
            await driver.off("3")
    assert switch.commands.count("Password:") == 1


async def test_enable_takes_the_logins_password_by_default(tmp_path: Path) -> None:
    switch = FakeEdgeSwitch()
    switch.enable_password = PASSWORD
    async with driven(switch, tmp_path) as driver:
        await driver.off("3")
    assert switch.states["3"] is PortState.OFF


async def test_a_wrong_password_after_enable_is_turned_away(tmp_path: Path) -> None:
    switch = FakeEdgeSwitch()
    switch.enable_password = "enable-me"
    async with driven(switch, tmp_path, enable_password="wrong-guess") as driver:
        with pytest.raises(TurnedAway, match="enable_password") as caught:
            await driver.off("3")
    assert "wrong-guess" not in str(caught.value)
    assert switch.states["3"] is PortState.ON


async def test_off_waits_until_there_is_no_voltage(tmp_path: Path) -> None:
    switch = FakeEdgeSwitch()
    switch.shuts_down_after = 2
    async with driven(switch, tmp_path, confirm_s=5) as driver:
        await driver.off("3")
    assert switch.commands.count("show poe status 0/3") == 3


async def test_a_port_that_keeps_its_voltage_is_not_off(tmp_path: Path) -> None:
    switch = FakeEdgeSwitch()
    switch.shuts_down_after = 1000
    async with driven(switch, tmp_path) as driver:
        with pytest.raises(NotConfirmed, match=r"port 3 of .* is unknown, not off"):
            await driver.off("3")


async def test_firmware_without_show_poe_port_is_read_by_its_status(tmp_path: Path) -> None:
    switch = FakeEdgeSwitch()
    switch.knows_opmode = False
    async with driven(switch, tmp_path) as driver:
        await driver.off("3")
        assert await driver.status("3") is PortState.OFF
        await driver.on("3")
        assert await driver.status("3") is PortState.ON
        with pytest.raises(UnknownPort):
            await driver.status("77")


async def test_a_port_without_poe_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    do = Cli._do

    async def without_poe(cli: Cli, words: list[str]) -> None:
        if words[0] == "poe":
            cli._write("Error: PoE is not supported on this interface\r\n")
        else:
            await do(cli, words)

    monkeypatch.setattr(Cli, "_do", without_poe)
    async with driven(FakeEdgeSwitch(), tmp_path) as driver:
        with pytest.raises(NotConfirmed, match=r"answers 'poe opmode shutdown': .*not supported"):
            await driver.off("3")


async def test_a_shell_without_a_switch_behind_it_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_telnet(_: FakeUniFi, line: str, process: asyncssh.SSHServerProcess[str]) -> None:
        process.stdout.write("-sh: telnet: not found\r\n")

    monkeypatch.setattr(FakeUniFi, "_do", no_telnet)
    async with driven(FakeUniFi(), tmp_path) as driver:
        with pytest.raises(NotConfirmed, match=r"no command line of a switch: .*telnet: not found"):
            await driver.probe()


async def test_a_command_line_that_was_left_meanwhile_fails_no_call(tmp_path: Path) -> None:
    """The switch logs idle users out of its command line, and a UniFi switch then is back in its shell."""
    switch = FakeUniFi()
    async with driven(switch, tmp_path) as driver:
        await driver.probe()
        for session in switch.sessions:
            session.log_out()
        await driver.off("3")
    assert switch.states["3"] is PortState.OFF
    assert switch.logins == 2


async def test_a_switch_that_broke_off_after_the_command_may_have_switched_whatever_it_says_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To call it an unknown port would say that nothing was switched, and the port would stay off."""
    switch = FakeEdgeSwitch()
    do = Cli._do

    async def break_off(cli: Cli, words: list[str]) -> None:
        if cli is not switch.sessions[0] and words[0] == "interface":
            cli._invalid()
            return
        await do(cli, words)
        if words[0] == "poe":
            await switch.break_off()

    async with driven(switch, tmp_path, limit_s=10) as driver:
        await driver.probe()
        monkeypatch.setattr(Cli, "_do", break_off)
        with pytest.raises(NotConfirmed, match=r"broke in the middle, and then: .* no interface 0/3"):
            await driver.off("3")
    assert switch.states["3"] is PortState.OFF


async def test_only_numbers_are_typed(tmp_path: Path) -> None:
    switch = FakeEdgeSwitch()
    async with driven(switch, tmp_path) as driver:
        for port in ("3\nreload", "3 ", "0/3", "0", "\uff13", ""):
            with pytest.raises(UnknownPort):
                await driver.off(port)
    assert not {line for line in switch.commands if line not in ENTER}


async def test_a_click_reaches_a_warm_switch_at_once(tmp_path: Path) -> None:
    switch = FakeEdgeSwitch()
    async with driven(switch, tmp_path) as driver:
        await driver.probe()
        for _ in range(MANY_TRIES):  # one is enough: on a busy computer most come late
            began, seen = time.monotonic(), len(switch.log)
            await driver.off("3")
            if switch.log[seen].at - began < 0.05:
                break
        else:
            pytest.fail("no command came at once")
    assert switch.logins == 1


async def test_the_old_agents_script_still_works_on_the_fake() -> None:
    switch = FakeUniFi()
    await switch.start()
    script = [
        "enable",
        "configure",
        "interface 0/5",
        "poe opmode shutdown",
        "exit",
        "exit",
        "exit",
        "exit",
        "",
    ]
    async with (
        asyncio.timeout(10),
        asyncssh.connect(
            "127.0.0.1", switch.port, username=USER, password=PASSWORD, known_hosts=None, config=None
        ) as connection,
    ):
        done = await connection.run("telnet 127.0.0.1", input="\n".join(script))
    await switch.stop()
    assert "shutdown" in str(done.stdout)
    assert switch.states["5"] is PortState.OFF


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "\x00" * 5000,
        "(" * 5000,
        "(UBNT) >" * 500,
        "\x1b[2J" * 1000,
        "--More--\r\n" * 400,
        "$ \r\n# " * 400,
        "ä" * 70000,
        "Password:",
    ],
    ids=["nothing", "zeros", "brackets", "prompts", "escapes", "mores", "shells", "flood", "question"],
)
async def test_no_greeting_is_worse_than_a_driver_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, garbage: str
) -> None:
    async def greet(_: FakeEdgeSwitch, process: asyncssh.SSHServerProcess[str]) -> None:
        process.stdout.write(garbage)
        async for _line in process.stdin:
            process.stdout.write(garbage)
        process.exit(0)

    monkeypatch.setattr(FakeEdgeSwitch, "serve", greet)
    async with driven(FakeEdgeSwitch(), tmp_path, limit_s=0.4) as driver:
        with pytest.raises(DriverError):
            await driver.off("3")


def test_a_table_is_read_by_the_line_of_dashes() -> None:
    text = "Intf      Mode   Mode\n--------- ------ ----\n0/1       Auto   x\n\n0/2       Shutdo y\n"
    assert table(text) == [{"Intf": "0/1", "Mode": "Auto"}, {"Intf": "0/2", "Mode": "Shutdo"}]
    assert table("") == table("--- ---") == table("no\ntable") == []


def test_a_port_is_used_once() -> None:
    with pytest.raises(ValidationError, match=r"Port '4' specified more than once\."):
        settings(ports={"a": 4, "b": "4"})


@pytest.mark.parametrize("port", ["0", "0/1", "x", "1000", "1\n"])
def test_a_port_is_a_number(port: str) -> None:
    with pytest.raises(ValidationError, match="invalid port for a"):
        settings(ports={"a": port})


async def test_without_a_password_nobody_is_asked(tmp_path: Path) -> None:
    switch = FakeEdgeSwitch()
    async with driven(switch, tmp_path, password=None) as driver:
        with pytest.raises(TurnedAway, match="POWERCYCLE_PASSWORD"):
            await driver.off("3")
    assert switch.gate.connected_at == []


def test_a_port_is_off_for_five_seconds_and_machines_are_asked_first() -> None:
    assert KIND.off_for.total_seconds() == 5
    assert KIND.soft_reboot
    assert KIND.reads_back
    assert not settings().legacy_ssh
