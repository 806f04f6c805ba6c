"""Runs `powercycle` in this process, from parsing to exit code, and writes configurations for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

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
