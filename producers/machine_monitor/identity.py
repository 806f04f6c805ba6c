"""Who this monitor is: the machine it speaks for, and a name for this run of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Final

from pipeline import logs
from pipeline.errors import Misconfigured
from producers.machine_monitor.files import write_whole
from schemas.ids import MACHINE_ID_RULE, is_machine_id
from schemas.wire import format_time, parse_time, to_milliseconds

ID_VARIABLE: Final = "SWARMING_BOT_ID"
_TICK: Final = timedelta(milliseconds=1)
"""The store keeps milliseconds, so two runs must differ by one."""
_INVALID = re.compile(r"[^A-Za-z0-9._-]")
_INVALID_START = re.compile(r"^[^A-Za-z0-9]+")


def machine_id(environment: Mapping[str, str], host_name: str) -> str:
    """`SWARMING_BOT_ID`, else the host name, with what an id may not hold replaced by `-`. Raises `Misconfigured`."""
    if given := environment.get(ID_VARIABLE, ""):
        if not is_machine_id(given):
            raise Misconfigured(f"{ID_VARIABLE} is {given!r}, but a machine id has {MACHINE_ID_RULE}")
        return given
    derived = _INVALID_START.sub("", _INVALID.sub("-", host_name))
    if not is_machine_id(derived):
        raise Misconfigured(
            f"the host name {host_name!r} cannot be made a machine id ({MACHINE_ID_RULE}): set {ID_VARIABLE}"
        )
    return derived


def next_start_time(file: Path, *, now: datetime) -> datetime:
    """The start time of a new run: `now`, but later than that of every run before, even when the clock was set back.

    Otherwise every event of this run would look like a replay of an older one. `file` remembers it. Raises
    `Misconfigured` when that cannot be written.
    """
    start = to_milliseconds(now.astimezone(UTC))
    last = _last_start_time(file)
    if last is not None and start <= last:
        logs.get_logger().warning("clock was set back", now=format_time(now), last_start=format_time(last))
        start = to_milliseconds(last) + _TICK
    try:
        write_whole(file, format_time(start).encode())
    except OSError as error:
        raise Misconfigured(f"{file} cannot be written: {error.strerror}") from error
    return start


def _last_start_time(file: Path) -> datetime | None:
    try:
        return parse_time(file.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logs.get_logger().warning("last start time is unreadable", file=str(file), reason=str(error))
        return None


def version() -> str:
    """Of this monitor."""
    try:
        return metadata.version("labkeeper")
    except metadata.PackageNotFoundError:
        return "development"
