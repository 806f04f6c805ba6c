"""What a probe promises. A probe knows one kind of device and how to ask it; it knows no server, broker or store."""

from __future__ import annotations

from typing import Protocol

from pipeline.errors import LabkeeperError
from schemas.description import Description
from schemas.event import IOS, Android, ChromeOS, DeviceKind, PyOCD, Standalone

DevicePart = Android | ChromeOS | IOS | PyOCD | Standalone


class ProbeFailed(LabkeeperError):
    """The device did not answer, or not with sense. The text says which question failed, and how."""


class Probe(Protocol):
    """Asks one kind of device how it is."""

    @property
    def kind(self) -> DeviceKind:
        """Which part of the Event the answer goes into."""
        ...

    async def interrogate(self, description: Description) -> DevicePart:
        """The device's answer. Raises `ProbeFailed` when there is no device or it does not answer in time."""
        ...


class Rebooter(Protocol):
    """Restarts one kind of device."""

    async def reboot(self, description: Description) -> None:
        """Order a restart; does not wait for it to end. Raises `ProbeFailed` when the order was not taken."""
        ...
