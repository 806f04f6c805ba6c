"""iOS devices, through libimobiledevice's `ideviceinfo` and `idevicediagnostics`."""

from __future__ import annotations

import re

from producers.machine_monitor.probes.commands import CommandFailed, CommandRunner
from schemas.description import Description
from schemas.event import BAD_BATTERY_LEVEL, IOS, DeviceKind

_BATTERY_DOMAIN = "com.apple.mobile.battery"
_INTEGER = re.compile(r"[+-]?\d{1,9}")


class IosProbe:
    """Asks and restarts the iOS device on this host's USB."""

    def __init__(self, commands: CommandRunner) -> None:
        self._commands = commands

    @property
    def kind(self) -> DeviceKind:
        return "ios"

    async def interrogate(self, description: Description) -> IOS:  # noqa: ARG002  # other kinds need it
        return IOS(
            device_type=await self._ask("-k", "ProductType"),
            version=await self._ask("-k", "ProductVersion"),
            battery=await self._battery(),
        )

    async def reboot(self, description: Description) -> None:  # noqa: ARG002  # other kinds need it
        await self._commands.run("idevicediagnostics", "restart", merged=True)

    async def _battery(self) -> int:
        try:
            return parse_battery(await self._ask("--domain", _BATTERY_DOMAIN, "-k", "BatteryCurrentCapacity"))
        except CommandFailed:
            return BAD_BATTERY_LEVEL

    async def _ask(self, *arguments: str) -> str:
        return (await self._commands.run("ideviceinfo", *arguments, merged=True)).stdout.strip()


def parse_battery(text: str) -> int:
    """Percent, or -99 when `text` is not an integer."""
    return int(text) if _INTEGER.fullmatch(text) else BAD_BATTERY_LEVEL
