"""Android devices, through `adb`. Which device, when there are several, is left to `ANDROID_SERIAL`."""

from __future__ import annotations

import re
from typing import Final

from pipeline import logs
from producers.machine_monitor.probes.commands import CommandFailed, CommandRunner
from producers.machine_monitor.probes.protocol import ProbeFailed
from schemas.description import Description
from schemas.event import Android, DeviceKind

_NS_PER_S: Final = 1_000_000_000
_DECIMAL = re.compile(r"\d{1,9}(\.\d*)?")
"""Nine digits are thirty years; more is no uptime, and might not fit its field."""


class AdbProbe:
    """Asks and restarts the Android device on this host's USB."""

    def __init__(self, commands: CommandRunner) -> None:
        self._commands = commands

    @property
    def kind(self) -> DeviceKind:
        return "android"

    async def interrogate(self, description: Description) -> Android:  # noqa: ARG002  # other kinds need it
        await self._ensure_online()
        return Android(
            uptime_ns=parse_uptime_s(await self._adb("shell", "cat", "/proc/uptime")) * _NS_PER_S,
            getprop=await self._adb("shell", "getprop"),
            dumpsys_battery=await self._adb_or_nothing("shell", "dumpsys", "battery"),
            dumpsys_thermal_service=await self._adb_or_nothing("shell", "dumpsys", "thermalservice"),
        )

    async def reboot(self, description: Description) -> None:  # noqa: ARG002  # other kinds need it
        try:
            await self._adb("reboot")
        except CommandFailed:
            await self._adb_or_nothing("reconnect", "offline")
            await self._adb("reboot")

    async def _ensure_online(self) -> None:
        try:
            await self._adb("get-state")
        except CommandFailed as error:
            state = error.stderr.strip().removeprefix("error:").strip()
            if "offline" not in state:
                raise ProbeFailed(
                    f"adb returned an error state we can't do anything about: {state or error}"
                ) from error
            await self._adb("reconnect", "offline")
            await self._adb("get-state")

    async def _adb_or_nothing(self, *arguments: str) -> str:
        try:
            return await self._adb(*arguments)
        except CommandFailed as error:
            logs.get_logger().warning("adb failed", reason=str(error))
            return ""

    async def _adb(self, *arguments: str) -> str:
        return (await self._commands.run("adb", *arguments)).stdout


def parse_uptime_s(text: str) -> int:
    """Whole seconds from `/proc/uptime`: `135.7 523.8` is 135. Raises `ProbeFailed` for anything else than two parts."""
    parts = text.split(" ")
    if len(parts) != 2 or not _DECIMAL.fullmatch(parts[0]):
        raise ProbeFailed(f"/proc/uptime does not hold two numbers: {text[:100]!r}")
    return int(float(parts[0]))
