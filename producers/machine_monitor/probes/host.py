"""The host itself as the machine under test. Cannot fail: what it cannot learn is logged and left empty.

What takes a process or the network to learn is remembered for a while instead of asked every thirty seconds.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from producers.machine_monitor.probes.commands import CommandFailed, CommandRunner
from producers.machine_monitor.probes.cpus import Cpu, cpu_dimensions, on_gce
from producers.machine_monitor.probes.doubts import Doubts
from producers.machine_monitor.probes.gce import GceMetadata
from producers.machine_monitor.probes.linux import LinuxFacts
from producers.machine_monitor.probes.mac import MacFacts
from producers.machine_monitor.probes.memory import Remembered
from producers.machine_monitor.probes.protocol import ProbeFailed
from producers.machine_monitor.probes.windows import WindowsFacts
from schemas.description import Description
from schemas.event import DeviceKind, Standalone

_HARDWARE_PERIOD: Final = timedelta(hours=1)
"""Systems, processors and cards change when the machine is off; drivers may be updated under way."""
_SOFTWARE_PERIOD: Final = timedelta(minutes=10)
"""Docker comes and goes with its daemon; at start-up the metadata server may not be reachable yet."""


class SystemFacts(Protocol):
    """What each operating system answers in its own way. Everything may raise `ProbeFailed`."""

    async def os_versions(self) -> list[str]: ...

    async def cpu(self) -> Cpu: ...

    async def gpus(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Cloud:
    """What the metadata server says; off GCE, nothing."""

    gce: bool = False
    machine_type: str = ""
    cpu_platform: str = ""


class HostProbe:
    """Asks the host this process runs on."""

    def __init__(
        self, commands: CommandRunner, system: SystemFacts, metadata: GceMetadata, *, architecture: str
    ) -> None:
        self._commands = commands
        self._system = system
        self._metadata = metadata
        self._architecture = architecture
        self._doubts = Doubts()
        none: list[str] = []
        self._os_versions = Remembered(
            "operating system", system.os_versions, fallback=none, period=_HARDWARE_PERIOD
        )
        self._cpus = Remembered("processor", self._ask_cpus, fallback=none, period=_SOFTWARE_PERIOD)
        self._gpus = Remembered("graphics cards", system.gpus, fallback=none, period=_HARDWARE_PERIOD)
        self._docker = Remembered("docker", self._has_docker, fallback=False, period=_SOFTWARE_PERIOD)
        self._cloud = Remembered("cloud", self._ask_cloud, fallback=Cloud(), period=_SOFTWARE_PERIOD)

    @property
    def kind(self) -> DeviceKind:
        return "standalone"

    async def interrogate(self, description: Description) -> Standalone:  # noqa: ARG002  # other kinds need it
        cloud = await self._cloud.get()
        return Standalone(
            cores=usable_cores(),
            cpus=await self._cpus.get(),
            gpus=await self._gpus.get(),
            os_versions=await self._os_versions.get(),
            gce=cloud.gce,
            machine_type=cloud.machine_type,
            docker_installed=await self._docker.get(),
        )

    async def _ask_cpus(self) -> list[str]:
        cloud = await self._cloud.get()
        return cpu_dimensions(self._architecture, on_gce(await self._system.cpu(), cloud.cpu_platform))

    async def _has_docker(self) -> bool:
        try:
            await self._commands.run("docker", "version")
        except CommandFailed:
            return False
        return True

    async def _ask_cloud(self) -> Cloud:
        if not await self._metadata.is_here():
            return Cloud()
        return Cloud(
            gce=True,
            machine_type=await self._or_nothing(self._metadata.machine_type()),
            cpu_platform=await self._or_nothing(self._metadata.cpu_platform()),
        )

    async def _or_nothing(self, answer: Awaitable[str]) -> str:
        try:
            return await answer
        except ProbeFailed as error:
            self._doubts.tell("cloud machine", error)
            return ""


def usable_cores() -> int:
    """CPUs that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def host_probe(commands: CommandRunner, *, metadata_host: str) -> HostProbe:
    """The probe for the system this process runs on."""
    system: SystemFacts
    match platform.system():
        case "Darwin":
            system = MacFacts(commands)
        case "Windows":
            system = WindowsFacts(commands)
        case _:
            system = LinuxFacts(commands)
    return HostProbe(commands, system, GceMetadata(host=metadata_host), architecture=platform.machine())
