from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from producers.machine_monitor.probes import commands as commands_module
from producers.machine_monitor.probes.commands import CommandFailed, CommandRunner
from tests.integration.machine_monitor.tools import Toolbox

pytestmark = pytest.mark.integration


@pytest.fixture
def runner(toolbox: Toolbox) -> CommandRunner:
    return CommandRunner(environment=toolbox.environment)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def is_running(pid_file: Path) -> bool:
    try:
        return bool(psutil.Process(int(pid_file.read_text())).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_output_is_told_apart(runner: CommandRunner, toolbox: Toolbox) -> None:
    toolbox.add("tool", "echo out; echo err >&2")
    output = await runner.run("tool")
    assert (output.stdout, output.stderr) == ("out\n", "err\n")


async def test_merged_output_is_one(runner: CommandRunner, toolbox: Toolbox) -> None:
    toolbox.add("tool", "echo out; echo err >&2")
    assert (await runner.run("tool", merged=True)).stdout == "out\nerr\n"


async def test_arguments_never_meet_a_shell(runner: CommandRunner, toolbox: Toolbox) -> None:
    toolbox.add("tool", 'printf "%s|" "$@"')
    assert (await runner.run("tool", "$(id)", "a b", "; ls")).stdout == "$(id)|a b|; ls|"


async def test_a_failure_tells_what_the_tool_said(runner: CommandRunner, toolbox: Toolbox) -> None:
    toolbox.add("adb", "echo half; echo 'error: no devices' >&2; exit 3")
    with pytest.raises(
        CommandFailed, match=r'^adb get-state: failed with stderr: "error: no devices": exit status 3$'
    ) as failed:
        await runner.run("adb", "get-state")
    assert (failed.value.stdout, failed.value.stderr) == ("half\n", "error: no devices\n")


async def test_a_tool_that_is_not_there_is_a_failure(runner: CommandRunner) -> None:
    with pytest.raises(CommandFailed, match="nonexistent-tool cannot be run: No such file"):
        await runner.run("nonexistent-tool")


async def test_a_tool_that_dies_is_a_failure(runner: CommandRunner, toolbox: Toolbox) -> None:
    toolbox.add("tool", "kill -SEGV $$")
    with pytest.raises(CommandFailed, match="killed by signal 11"):
        await runner.run("tool")


async def test_what_is_no_text_and_no_store_keeps_is_replaced(
    runner: CommandRunner, toolbox: Toolbox
) -> None:
    toolbox.add("tool", r"printf 'a\377b\000c'")
    assert (await runner.run("tool")).stdout == "a\ufffdb\ufffdc"


async def test_a_tool_that_overstays_is_killed_with_all_it_started(
    runner: CommandRunner, toolbox: Toolbox, tmp_path: Path
) -> None:
    child = tmp_path / "child"
    toolbox.add("tool", f"sleep 600 & echo $! > '{child}.new'; mv '{child}.new' '{child}'; wait")
    for seconds in (0.5, 5, 50):
        with pytest.raises(CommandFailed, match=f"tool: no answer within {seconds:g} s"):
            await runner.run("tool", within=timedelta(seconds=seconds))
        if child.exists():  # else it had no time to begin
            break
    await until(lambda: child.exists() and not is_running(child))


async def test_a_tool_that_is_no_longer_wanted_is_killed(
    runner: CommandRunner, toolbox: Toolbox, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    toolbox.add("tool", f"echo $$ > '{pid}.new'; mv '{pid}.new' '{pid}'; exec sleep 600")
    running = asyncio.create_task(runner.run("tool", within=timedelta(seconds=600)))
    await until(pid.exists)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert not is_running(pid)


async def test_a_tool_that_never_stops_writing_is_killed(
    runner: CommandRunner, toolbox: Toolbox, tmp_path: Path
) -> None:
    toolbox.add("tool", "exec cat /dev/zero")
    with pytest.raises(CommandFailed, match="wrote more than 1048576 bytes"):
        await runner.run("tool", within=timedelta(seconds=60))


async def test_a_daemon_that_a_tool_leaves_behind_is_not_waited_for(
    runner: CommandRunner, toolbox: Toolbox, tmp_path: Path
) -> None:
    daemon = tmp_path / "daemon"
    toolbox.add("adb", f"setsid sleep 600 & echo $! > '{daemon}'; echo device")
    started = time.monotonic()
    try:
        output = await runner.run("adb", "get-state", within=timedelta(seconds=60))
        assert output.stdout == "device\n"
        assert time.monotonic() - started < 55
        assert is_running(daemon)
    finally:
        os.kill(int(daemon.read_text()), 9)


async def test_a_tool_that_cannot_be_killed_is_given_up(
    runner: CommandRunner, toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck: list[asyncio.SubprocessTransport] = []
    monkeypatch.setattr(commands_module, "_KILL_TIME_S", 0.1)
    monkeypatch.setattr(commands_module, "_kill_group", stuck.append)
    toolbox.add("tool", "exec sleep 600")
    with pytest.raises(CommandFailed, match="no answer"):
        await runner.run("tool", within=timedelta(seconds=0.2))
    await until(lambda: stuck[0].get_returncode() is not None)
