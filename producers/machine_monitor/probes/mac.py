"""The Mac itself: system, processor, graphics cards."""

from __future__ import annotations

import plistlib
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from xml.parsers.expat import ExpatError

from producers.machine_monitor.probes.commands import CommandFailed, CommandRunner
from producers.machine_monitor.probes.cpus import Cpu
from producers.machine_monitor.probes.protocol import ProbeFailed
from producers.machine_monitor.probes.versions import in_all_precisions

_PROFILER_TIME: Final = timedelta(seconds=30)
_VMWARE: Final = "15ad"
_UNKNOWN: Final = "UNKNOWN"
_VENDOR_IDS: Final = {"amd": "1002", "aspeed": "1a03", "intel": "8086", "matrox": "102b", "nvidia": "10de"}
_ID_IN_VENDOR = re.compile(r"\(0x([0-9a-fA-F]{4})\)")
_NAME_IN_VENDOR = re.compile(r"sppci_vendor_([a-z]+)$")
_GMUX_VERSION = re.compile(r"(\d+(?:\.\d+)+) \[(\d+(?:\.\d+)+)\]")


class MacFacts:
    """Reads what macOS says about itself."""

    def __init__(self, commands: CommandRunner) -> None:
        self._commands = commands

    async def os_versions(self) -> list[str]:
        version = (await self._commands.run("sw_vers", "-productVersion")).stdout.strip()
        return in_all_precisions("Mac", version)

    async def cpu(self) -> Cpu:
        return Cpu(await self._sysctl("machdep.cpu.vendor"), await self._sysctl("machdep.cpu.brand_string"))

    async def gpus(self) -> list[str]:
        profile = await self._commands.run(
            "system_profiler", "SPDisplaysDataType", "-xml", within=_PROFILER_TIME
        )
        return parse_displays(profile.stdout)

    async def _sysctl(self, name: str) -> str:
        try:
            return (await self._commands.run("sysctl", "-n", name)).stdout.strip()
        except CommandFailed:  # Apple's own processors name no vendor
            return ""


def parse_displays(profile: str) -> list[str]:
    """GPU dimensions from `system_profiler SPDisplaysDataType -xml`. Raises `ProbeFailed` when it is malformed."""
    found: list[str] = []
    for item in _items(profile):
        device = _text(item, "spdisplays_device-id").removeprefix("0x")
        vendor = _vendor(item)
        if not device or vendor is None:
            continue
        if vendor == _VMWARE:
            return ["none"]
        found += [vendor, f"{vendor}:{device}"]
        if version := _GMUX_VERSION.search(_text(item, "spdisplays_gmux-version")):
            found.append(f"{vendor}:{device}-{version[1]}-{version[2]}")
    return sorted(found) or ["none"]


def _items(profile: str) -> list[Mapping[str, Any]]:
    try:
        outer = plistlib.loads(profile.encode())
    except (ExpatError, plistlib.InvalidFileException, ValueError, KeyError, IndexError) as error:
        raise ProbeFailed(f"system_profiler wrote no property list: {error}") from error
    if not isinstance(outer, list) or not outer or not isinstance(outer[0], dict):
        raise ProbeFailed("system_profiler wrote an empty property list")
    items = outer[0].get("_items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _vendor(item: Mapping[str, Any]) -> str | None:
    """PCI vendor id, or `UNKNOWN`; None when the model has a name of one word, which makes no sense."""
    vendor = _text(item, "spdisplays_vendor")
    vendor_id = _text(item, "spdisplays_vendor-id").removeprefix("0x")
    if not vendor_id and (found := _ID_IN_VENDOR.search(vendor)):
        vendor_id = found[1]
    words = _text(item, "sppci_model").split()
    if len(words) == 1:
        return None
    if not vendor_id and words:
        vendor_id = _VENDOR_IDS.get(words[0].lower(), "")
    if not vendor_id and (found := _NAME_IN_VENDOR.search(vendor)):
        vendor_id = _VENDOR_IDS.get(found[1], "")
    return vendor_id or _UNKNOWN


def _text(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    return value if isinstance(value, str) else ""
