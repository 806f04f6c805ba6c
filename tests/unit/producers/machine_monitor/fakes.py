"""Stand-ins for hardware and for the other side."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.errors import LabkeeperError
from producers.machine_monitor.probes.protocol import DevicePart, ProbeFailed
from schemas.description import Description
from schemas.event import Android, DeviceKind, Event


@dataclass
class FakeProbe:
    """A device that answers with what it is told to."""

    kind: DeviceKind = "android"
    answer: DevicePart | ProbeFailed = field(default_factory=lambda: Android(getprop="x", uptime_ns=10))
    asked: list[Description] = field(default_factory=list)
    rebooted: list[Description] = field(default_factory=list)
    reboot_error: ProbeFailed | None = None

    async def interrogate(self, description: Description) -> DevicePart:
        self.asked.append(description)
        if isinstance(self.answer, ProbeFailed):
            raise self.answer
        return self.answer

    async def reboot(self, description: Description) -> None:
        self.rebooted.append(description)
        if self.reboot_error is not None:
            raise self.reboot_error


class FakeSink:
    """Takes events, or does not."""

    kind = "fake"

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.headers: list[Mapping[str, str]] = []
        self.trouble: LabkeeperError | None = None
        """Raised instead of taking an event."""
        self.refused = asyncio.Event()
        self._changed = asyncio.Event()

    async def send(self, machine_id: str, body: bytes, headers: Mapping[str, str]) -> None:
        if self.trouble is not None:
            self.refused.set()
            raise self.trouble
        event = Event.model_validate_json(body)
        assert event.host.name == machine_id
        self.events.append(event)
        self.headers.append(headers)
        self._changed.set()

    async def got(self, count: int) -> list[Event]:
        """The events, as soon as there are so many."""
        async with asyncio.timeout(60):
            while len(self.events) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.events
