"""Restarts the attached device after a task, apart from whoever asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from pipeline import logs
from producers.machine_monitor.belief import Belief
from producers.machine_monitor.probes.protocol import ProbeFailed, Rebooter
from schemas.description import Description


@dataclass(frozen=True, slots=True)
class Rebooters:
    """Who can restart what."""

    android: Rebooter
    ios: Rebooter
    ssh: Rebooter

    def choose(self, description: Description) -> Rebooter | None:
        """The one that fits the machine's dimensions; None when no device is attached."""
        if description.dimension("android_devices"):
            return self.android
        if "iOS" in description.dimension("os"):
            return self.ios
        return self.ssh if description.ssh_user_ip else None


class RebootWorker:
    """Restarts the device when asked, then has it interrogated. Requests made meanwhile are one more request."""

    def __init__(self, rebooters: Rebooters, belief: Belief, *, afterwards: Callable[[], None]) -> None:
        self._rebooters = rebooters
        self._belief = belief
        self._afterwards = afterwards
        self._wanted = asyncio.Event()

    def request(self) -> None:
        """Return at once; the restart happens in `run`."""
        self._wanted.set()

    async def run(self) -> None:
        """Serve requests for ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._reboot()
            self._afterwards()

    async def _reboot(self) -> None:
        description = self._belief.current
        rebooter = None if description is None else self._rebooters.choose(description)
        if description is None or rebooter is None:
            return
        try:
            await rebooter.reboot(description)
        except ProbeFailed as error:
            logs.get_logger().warning("device not rebooted", reason=str(error))
        else:
            logs.get_logger().info("device rebooted")
