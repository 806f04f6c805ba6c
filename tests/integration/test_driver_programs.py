"""Programs that drivers run: what they get, what they leave behind, and how each driver reads them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from pydantic import ValidationError

from consumers.powercycle_agent.drivers import child, command, ipmi, uhubctl
from consumers.powercycle_agent.drivers.errors import (
    DriverError,
    NotConfirmed,
    NotInstalled,
    TurnedAway,
    UnknownPort,
    Unreachable,
)
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState, PowerDriver
from consumers.powercycle_agent.drivers.secrets import Secrets
from tests.power_devices.uhubctl import HUB, FakeUhubctl

pytestmark = pytest.mark.integration
PATIENCE_S: Final = 60.0
PASSWORD: Final = "only for the environment"


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def opened(kind: DriverKind, **keys: Any) -> PowerDriver:
    entry = {"ports": {"machine": "0"}, "confirm_s": 0.2, **keys}
    secrets = Secrets({"POWERCYCLE_PASSWORD": PASSWORD}, Path("/nonexistent"))
    driver: PowerDriver = kind.open(kind.settings.model_validate(entry), secrets)
    return driver


async def run(*argv: str, limit_s: float = PATIENCE_S) -> child.Ended:
    return await child.run(argv, device="a lamp", limit_s=limit_s, install="install it")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)


def family(folder: Path) -> Callable[[], list[psutil.Process]]:
    """Processes that a script left in `pids`, as long as they live."""

    def alive() -> list[psutil.Process]:
        pids = (folder / "pids").read_text().split() if (folder / "pids").exists() else []
        found = [psutil.Process(int(pid)) for pid in pids if psutil.pid_exists(int(pid))]
        return [each for each in found if each.status() != psutil.STATUS_ZOMBIE]

    return alive


FAMILY: Final = "sleep 600 & echo $$ $! > pids.new; mv pids.new pids; wait"
"""A script with a child, which says who they are once both run."""


async def test_a_program_that_overstays_dies_with_all_that_it_started(tmp_path: Path) -> None:
    program = script(tmp_path / "slow", f"cd {tmp_path}; {FAMILY}")
    for limit_s in (0.5, 5, 50):
        with pytest.raises(Unreachable, match=f"a lamp did not answer within {limit_s:g} s"):
            await run(program, limit_s=limit_s)
        if (tmp_path / "pids").exists():  # else it had no time to begin
            break
    assert (tmp_path / "pids").exists()
    await until(lambda: not family(tmp_path)())


async def test_a_cancelled_call_leaves_no_program_behind(tmp_path: Path) -> None:
    program = script(tmp_path / "slow", f"cd {tmp_path}; {FAMILY}")
    call = asyncio.create_task(run(program))
    await until(lambda: len(family(tmp_path)()) == 2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: not family(tmp_path)())


async def test_a_call_that_is_cancelled_while_its_program_starts_ends_at_once(tmp_path: Path) -> None:
    """Asyncio itself would wait for ever, or kill the program and not what it started."""
    program = script(tmp_path / "slow", f"cd {tmp_path}; {FAMILY}")
    for rounds in range(8):
        call = asyncio.create_task(run(program))
        for _ in range(rounds):
            await asyncio.sleep(0)
        call.cancel()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(asyncio.CancelledError):
                await call
    await until(lambda: not [each for each in psutil.process_iter() if program in command_line(each)])
    await until(lambda: not family(tmp_path)())


def command_line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:  # gone meanwhile
        return []


async def test_a_daemon_that_keeps_the_output_open_is_not_waited_for(tmp_path: Path) -> None:
    program = script(tmp_path / "starter", f"cd {tmp_path}; echo done; sleep 600 & echo $! > pids")
    began = time.monotonic()
    ended = await run(program)
    assert ended == child.Ended(0, "done\n", "")
    assert time.monotonic() - began < PATIENCE_S / 2
    (daemon,) = family(tmp_path)()
    daemon.kill()


async def test_of_endless_output_only_the_beginning_is_kept() -> None:
    ended = await run(sys.executable, "-c", "print('x' * 1_000_000)")
    assert ended.out == "x" * child.OUTPUT_LIMIT


async def test_a_program_that_is_not_there_is_named_with_advice() -> None:
    with pytest.raises(NotInstalled, match=r"cannot run /nonexistent/tool .*: install it"):
        await run("/nonexistent/tool")


async def test_the_password_of_a_bmc_is_in_no_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(
        tmp_path / "ipmitool", f'echo "$@" > {tmp_path}/argv; env > {tmp_path}/env; echo Chassis Power is on'
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("LABKEEPER_TOKEN", "not ipmitool's business")
    driver = opened(ipmi.KIND, address="10.0.0.7", user="power")
    assert await driver.status("0") is PortState.ON
    assert PASSWORD not in (tmp_path / "argv").read_text()
    assert f"IPMI_PASSWORD={PASSWORD}" in (tmp_path / "env").read_text()
    assert "LABKEEPER_TOKEN" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "-v -I lanplus -H 10.0.0.7 -p 623 -U power -E -L OPERATOR chassis power status"),
        (
            {"udp_port": 6230, "privilege": "ADMINISTRATOR", "cipher_suite": 17},
            "-v -I lanplus -H 10.0.0.7 -p 6230 -U power -E -L ADMINISTRATOR -C 17 chassis power status",
        ),
    ],
    ids=["by default", "all said"],
)
async def test_ipmitool_is_told_exactly_this(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], said: str
) -> None:
    script(tmp_path / "ipmitool", f'echo "$@" > {tmp_path}/argv; echo Chassis Power is off')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert await opened(ipmi.KIND, address="10.0.0.7", user="power", **keys).status("0") is PortState.OFF
    assert (tmp_path / "argv").read_text() == said + "\n"


async def test_a_bmc_that_refuses_what_is_so_already_has_done_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses = "Set Chassis Power Control to Down/Off failed: Command not supported in present state"
    script(
        tmp_path / "ipmitool",
        f'case "$*" in *status) echo Chassis Power is off ;; *) echo {refuses} >&2; exit 1 ;; esac',
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    driver = opened(ipmi.KIND, address="10.0.0.7", user="power")
    await driver.off("0")
    with pytest.raises(NotConfirmed, match="present state"):
        await driver.on("0")


async def test_a_bmc_that_answers_off_with_an_error_and_then_turns_us_away_may_have_switched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`TurnedAway` would say that nothing was: the machine would stay off."""
    says = "Error in open session response message : invalid role"
    script(
        tmp_path / "ipmitool",
        f'case "$*" in *status) echo {says} >&2; exit 1 ;; *) echo Unspecified error >&2; exit 1 ;; esac',
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(NotConfirmed, match="the device was told, and then: BMC"):
        await opened(ipmi.KIND, address="10.0.0.7", user="power").off("0")


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[FakeUhubctl]:
    device = FakeUhubctl(tmp_path)
    await device.start()
    yield device
    await device.dispose()


async def test_a_usb_port_with_power_in_one_half_only_is_neither_on_nor_off(hub: FakeUhubctl) -> None:
    hub.half_dark.add("3")
    driver = opened(uhubctl.KIND, hub=HUB, program=str(hub.program), ports={"phone": 3})
    assert await driver.status("3") is PortState.UNKNOWN
    assert await driver.status("2") is PortState.ON


async def test_uhubctl_is_told_exactly_this(tmp_path: Path) -> None:
    program = script(tmp_path / "uhubctl", f'echo "$@" >> {tmp_path}/argv; echo "  Port 3: 0000 off"')
    driver = opened(uhubctl.KIND, hub=HUB, program=program, ports={"phone": 3}, repeat=5)
    await driver.off("3")
    asks, tells = f"-l {HUB} -p 3", f"-l {HUB} -p 3 -a off -r 5"
    assert (tmp_path / "argv").read_text().splitlines() == [asks, tells, asks]


async def test_what_an_older_uhubctl_prints_is_read_as_well(hub: FakeUhubctl) -> None:
    hub.indent = "   "
    driver = opened(uhubctl.KIND, hub=HUB, program=str(hub.program), ports={"phone": 3})
    await driver.off("3")
    assert await driver.status("3") is PortState.OFF


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (67, UnknownPort),
        (68, Unreachable),
        (69, Unreachable),
        (75, Unreachable),
        (77, TurnedAway),
        (1, NotConfirmed),
    ],
)
async def test_an_exit_status_means_what_sysexits_says(
    tmp_path: Path, status: int, error: type[DriverError]
) -> None:
    program = script(tmp_path / "relay", f"echo it is so >&2; exit {status}")
    driver = opened(command.KIND, on=[program], off=[program, "{port}"], status=[program])
    with pytest.raises(error, match="it is so"):
        await driver.off("0")


async def test_without_expressions_the_exit_status_is_the_state(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text("0")
    driver = opened(
        command.KIND,
        on=[script(tmp_path / "on", f"echo 0 > {state}")],
        off=[script(tmp_path / "off", f"echo 1 > {state}")],
        status=[script(tmp_path / "get", f"exit $(cat {state})")],
    )
    await driver.off("0")
    assert await driver.status("0") is PortState.OFF
    await driver.on("0")
    assert await driver.status("0") is PortState.ON


async def test_a_port_is_one_argument_and_never_a_shells(tmp_path: Path) -> None:
    program = script(tmp_path / "say", f'printf "%s|" "$@" >> {tmp_path}/said')
    driver = opened(command.KIND, on=[program, "{port}", "x{port}"], off=["false"], status=["true"])
    await driver.on(f"a b; touch {tmp_path}/oops")
    assert (tmp_path / "said").read_text() == f"a b; touch {tmp_path}/oops|x{{port}}|"
    assert not (tmp_path / "oops").exists()


@pytest.mark.parametrize(
    ("kind", "keys", "said"),
    [
        (command.KIND, {"on": []}, "on"),
        (command.KIND, {"on": ["{port}"]}, "begin with a program"),
        (command.KIND, {"on": ["a\0b"]}, "NUL"),
        (command.KIND, {"says_on": "on"}, "belong together"),
        (command.KIND, {"says_on": "(", "says_off": "off"}, "regular expression"),
        (ipmi.KIND, {"ports": {"m": "1"}}, "must be 0"),
        (ipmi.KIND, {"address": "-oProxy"}, "address"),
        (ipmi.KIND, {"user": "-x"}, "user"),
        (uhubctl.KIND, {"hub": "1-1;reboot"}, "hub"),
        (uhubctl.KIND, {"ports": {"m": "-a"}}, "port of m"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused(kind: DriverKind, keys: dict[str, Any], said: str) -> None:
    whole: dict[str, dict[str, Any]] = {
        "command": {"on": ["true"], "off": ["true"], "status": ["true"]},
        "ipmi": {"address": "10.0.0.7", "user": "power"},
        "uhubctl": {"hub": "1-1"},
    }
    with pytest.raises(ValidationError, match=said):
        kind.settings.model_validate({"ports": {}, **whole[kind.name], **keys})
