"""What every fake power device has in common: ports, a record of what it was told, and moods."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from consumers.powercycle_agent.drivers.protocol import PortState

_LOOK_EVERY_S: Final = 0.005


class Mood(StrEnum):
    """How a device behaves from now on."""

    WELL = "well"
    IDLES = "idles"
    """Takes every command, says that all is fine, and switches nothing."""
    REFUSES = "refuses"
    """Lets nobody in: every login is wrong."""
    HANGS = "hangs"
    """Takes connections and bytes, and never answers. What was asked meanwhile is not done later either."""
    BABBLES = "babbles"
    """Answers, but nothing that makes sense in its protocol, and switches nothing."""


@dataclass(frozen=True, slots=True)
class Told:
    """Something that a device was told."""

    at: float
    """`time.monotonic()` when its first byte was here."""
    text: str
    """Exactly as it came, without the line's end."""


@dataclass(frozen=True, slots=True)
class Switched:
    """Something that a device did."""

    at: float
    """`time.monotonic()`."""
    port: str
    state: PortState


@dataclass(slots=True)
class Hold:
    """What a device is told from now on has to wait. The fields may be set in any thread."""

    is_over: bool = False
    """It is done now."""
    is_forgotten: bool = False
    """It never will be."""


class PowerDevice(ABC):
    """A power device on loopback that speaks its real protocol. All ports are on at first.

    `start` and `stop` may be called again and again: its address stays the same.
    """

    def __init__(self, ports: Sequence[str]) -> None:
        self.mood = Mood.WELL
        self.log: list[Told] = []
        self.states = dict.fromkeys(ports, PortState.ON)
        """What is so, whatever the device says of it."""
        self.switched: list[Switched] = []
        self.hold: Hold | None = None
        """For commands that switch on."""

    @property
    def commands(self) -> list[str]:
        """What it was told, in order."""
        return [told.text for told in self.log]

    def note(self, text: str, *, at: float | None = None) -> None:
        """Remember a command."""
        self.log.append(Told(time.monotonic() if at is None else at, text))

    def switch(self, port: str, state: PortState) -> None:
        """Do what a command says, if the mood is right."""
        if self.mood is Mood.WELL:
            self.states[port] = state
            self.switched.append(Switched(time.monotonic(), port, state))

    async def is_due(self, state: PortState) -> bool:
        """Wait until a command may be done; False: never."""
        hold = self.hold if state is PortState.ON else None
        while hold is not None and not (hold.is_over or hold.is_forgotten):
            await asyncio.sleep(_LOOK_EVERY_S)
        return hold is None or not hold.is_forgotten

    @abstractmethod
    async def start(self) -> None:
        """Be there, where it was before if it was."""

    @abstractmethod
    async def stop(self) -> None:
        """Be gone: nobody listens, connections are cut. Ports stay as they are."""

    @abstractmethod
    async def break_off(self) -> None:
        """Cut all connections that there are, without a word; new ones are taken."""
