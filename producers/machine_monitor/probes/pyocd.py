"""Microcontroller boards behind a debug probe. What board it is says a file; whether one is there says `pyocd`.

The original believed the file alone. Here, where `pyocd` is installed, it is asked for the probes that are plugged in;
where it is not, or while a task holds the probe (a busy probe is not listed), the file is believed as before.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from pipeline.errors import Misconfigured
from pipeline.json5_file import read_json5
from producers.machine_monitor.probes.commands import CommandRunner
from producers.machine_monitor.probes.protocol import ProbeFailed
from schemas.description import Description
from schemas.event import DeviceKind
from schemas.event import PyOCD as Board

DEFAULT_CONFIG: Final = Path("/etc/skia/pyocd_config.json")
_CONFIG_LIMIT: Final = 64 * 1024
_LIST_TIME: Final = timedelta(seconds=20)
"""pyOCD starts slowly on small hosts, and looks at every USB device."""


class PyocdProbe:
    """Looks for the configured board."""

    def __init__(
        self,
        commands: CommandRunner,
        *,
        config: Path = DEFAULT_CONFIG,
        busy: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`config` is JSON5 and is read once, now. `busy` tells whether a task is running."""
        self._commands = commands
        self._busy = busy
        self._environment = environment
        self._device_type: str | ProbeFailed
        try:
            self._device_type = read_device_type(config)
        except ProbeFailed as error:
            self._device_type = error

    @property
    def kind(self) -> DeviceKind:
        return "pyocd"

    async def interrogate(self, description: Description) -> Board:  # noqa: ARG002  # other kinds need it
        if isinstance(self._device_type, ProbeFailed):
            raise ProbeFailed(str(self._device_type))
        path = (os.environ if self._environment is None else self._environment).get("PATH")
        if not self._busy() and shutil.which("pyocd", path=path) is not None:
            listing = await self._commands.run("pyocd", "json", "--probes", within=_LIST_TIME)
            if count_boards(listing.stdout) == 0:
                raise ProbeFailed("pyocd finds no debug probe")
        return Board(device_type=self._device_type)


def read_device_type(config: Path) -> str:
    """The board's type from a JSON5 file's key `device_type`. Raises `ProbeFailed` naming the file."""
    try:
        content = read_json5(config, max_bytes=_CONFIG_LIMIT)
    except Misconfigured as error:
        raise ProbeFailed(str(error)) from error
    device_type = content.get("device_type") if isinstance(content, dict) else None
    if not isinstance(device_type, str) or not device_type:
        raise ProbeFailed(f"{config} has no text under the key device_type")
    return device_type


def count_boards(listing: str) -> int:
    """How many probes `pyocd json --probes` found. Raises `ProbeFailed` when pyocd reports an error instead."""
    try:
        content = json.loads(listing)
    except (ValueError, RecursionError) as error:
        raise ProbeFailed(f"pyocd did not answer in JSON: {listing[:100]!r}") from error
    boards = content.get("boards") if isinstance(content, dict) else None
    if not isinstance(boards, list) or content.get("status") != 0:
        reason = content.get("error") if isinstance(content, dict) else None
        raise ProbeFailed(f"pyocd could not list the debug probes: {str(reason)[:200]}")
    return len(boards)
