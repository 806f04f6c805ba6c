"""Runs `powercycle` in this process, from parsing to exit code, and writes configurations for it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from consumers.powercycle_agent.places import STATE_VARIABLE
from consumers.powercycle_agent.powercycle import command
from pipeline.command import run
from tests.power_devices.ssh_device import PASSWORD, USER, SshDevice

NOWHERE = "http://127.0.0.1:1"
"""Nobody listens there."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a call left behind."""

    code: int
    lines: list[str]
    """Of standard error; the old command said nothing elsewhere."""


def powercycle(*arguments: object, **environment: str) -> Ran:
    """Run `powercycle ARGUMENTS`, with no other LABKEEPER variables than those given."""
    clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith("LABKEEPER_")}
    clean[STATE_VARIABLE] = "/dev/null/state"  # not this host's own
    with CliRunner().isolation(env={**clean, **environment}) as (_, err, _both):
        try:
            run(command, [str(each) for each in arguments], name="powercycle")
        except SystemExit as ended:
            code = ended.code
        assert isinstance(code, int)
        return Ran(code, err.getvalue().decode().splitlines())


async def powercycle_beside(*arguments: object, **environment: str) -> Ran:
    """The same beside servers that run in this event loop."""
    return await asyncio.to_thread(powercycle, *arguments, **environment)


@asynccontextmanager
async def child(*arguments: object, state: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The same as a process of its own, killed in the end if it is still there."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LABKEEPER_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "consumers.powercycle_agent.powercycle", *map(str, arguments)),
        stderr=asyncio.subprocess.PIPE,
        env={**clean, STATE_VARIABLE: str(state)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said(process: asyncio.subprocess.Process, beginning: str) -> str:
    """Wait until it says something that begins so."""
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode():
        if line.startswith(beginning):
            return line
    raise AssertionError(f"it never said {beginning!r}")


def strips(folder: Path, **ports: Mapping[str, int]) -> Path:
    """A configuration of strips, by label, which nobody ever reaches."""
    entries = [
        f"'{label}': {{ address: '127.0.0.1', ssh_port: 1, user: 'u', password: 'p', ports: {dict(some)} }}"
        for label, some in ports.items()
    ]
    return _written(folder, f"{{ mpower: {{ {', '.join(entries)} }} }}")


def devices(folder: Path, **running: tuple[SshDevice, Mapping[str, int]]) -> Path:
    """A configuration of fake devices, by kind, whose keys are known."""
    entries = [
        f"{kind}: {{ it: {{ address: '127.0.0.1', ssh_port: {device.port}, user: '{USER}', password: '{PASSWORD}', "
        f"host_key: '{device.host_key.export_public_key().decode().strip()}', soft_reboot: false, ports: {dict(ports)} }} }}"
        for kind, (device, ports) in running.items()
    ]
    return _written(folder, f"{{ {', '.join(entries)} }}")


def _written(folder: Path, text: str) -> Path:
    path = folder / "powercycle.json5"
    path.write_text(text)
    path.chmod(0o600)
    return path
