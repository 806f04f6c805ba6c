"""The Windows host itself: system, processor, graphics cards, all from WMI through PowerShell."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from producers.machine_monitor.probes.commands import CommandRunner
from producers.machine_monitor.probes.cpus import Cpu
from producers.machine_monitor.probes.protocol import ProbeFailed

_POWERSHELL: Final = ("powershell", "-NoProfile", "-NonInteractive", "-Command")
_WMI_TIME: Final = timedelta(seconds=30)
_VMWARE: Final = "15ad"
_UNKNOWN: Final = "UNKNOWN"
_PLATFORM = re.compile(r"Microsoft Windows (\w+)")
_BUILD = re.compile(r"\d+\.\d+\.(\d+) ")
_VENDOR = re.compile(r"VEN_([0-9A-F]{4})")
_DEVICE = re.compile(r"DEV_([0-9A-F]{4})")


class WindowsFacts:
    """Reads what Windows says about itself."""

    def __init__(self, commands: CommandRunner) -> None:
        self._commands = commands

    async def os_versions(self) -> list[str]:
        system = _first(await self._query("Caption, Version, BuildNumber", "Win32_OperatingSystem"))
        return windows_versions(
            _text(system, "Caption"), f"{_text(system, 'Version')} Build {_text(system, 'BuildNumber')}"
        )

    async def cpu(self) -> Cpu:
        first = _first(await self._query("Manufacturer, Name", "Win32_Processor"))
        vendor, brand = _text(first, "Manufacturer"), _text(first, "Name")
        return Cpu(vendor, brand.strip() if vendor == "AuthenticAMD" else brand)

    async def gpus(self) -> list[str]:
        return controller_dimensions(await self._query("DriverVersion, PNPDeviceID", "Win32_VideoController"))

    async def _query(self, columns: str, table: str) -> Sequence[Mapping[str, Any]]:
        script = (
            f"@(Get-CimInstance -ClassName {table} -Property {columns} | Select-Object {columns}) "
            "| ConvertTo-Json -Compress"
        )
        return parse_rows((await self._commands.run(*_POWERSHELL, script, within=_WMI_TIME)).stdout)


def parse_rows(text: str) -> list[Mapping[str, Any]]:
    """Rows of a WMI query as JSON; PowerShell writes a single row without a list around it, and none as nothing."""
    try:
        content = json.loads(text) if text.strip() else []
    except (ValueError, RecursionError) as error:
        raise ProbeFailed(f"PowerShell did not answer in JSON: {text[:100]!r}") from error
    rows = content if isinstance(content, list) else [content]
    return [row for row in rows if isinstance(row, dict)]


def windows_versions(platform: str, version: str) -> list[str]:
    """(`Microsoft Windows Server 2019 Datacenter`, `10.0.17763 Build 17763`) is `Windows`, `Windows-Server`,
    `Windows-Server-17763`. Raises `ProbeFailed` for texts of another shape.
    """
    edition, build = _PLATFORM.search(platform), _BUILD.search(version)
    if edition is None or build is None:
        raise ProbeFailed(f"unknown Windows: {platform!r}, {version!r}")
    return ["Windows", f"Windows-{edition[1]}", f"Windows-{edition[1]}-{build[1]}"]


def controller_dimensions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """GPU dimensions from rows of `Win32_VideoController`, in its order."""
    found: list[str] = []
    for row in rows:
        plug_and_play_id, driver = _text(row, "PNPDeviceID"), _text(row, "DriverVersion")
        vendor, device = _id(_VENDOR, plug_and_play_id), _id(_DEVICE, plug_and_play_id)
        if vendor == _VMWARE:
            return ["none"]
        found += [vendor, f"{vendor}:{device}"]
        if driver:
            found.append(f"{vendor}:{device}-{driver}")
    return found or ["none"]


def _id(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1].lower() if found else _UNKNOWN


def _first(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return rows[0] if rows else {}


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return str(value) if isinstance(value, (str, int)) else ""
