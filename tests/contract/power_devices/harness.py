"""What the suite needs to know of a driver and its fake device.

A driver's tests join the suite with a module here that exports `HARNESSES`, a sequence of `Harness`; nothing else is edited.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from consumers.powercycle_agent.drivers.protocol import DriverKind, PowerDriver
from consumers.powercycle_agent.drivers.secrets import Secrets
from tests.contract import power_devices
from tests.power_devices.device import PowerDevice


class Trait(StrEnum):
    """What a promise rests on. A device that lacks it says so, with the reason."""

    LOGIN = "login"
    """The device can turn somebody away."""
    READ_BACK = "read back"
    """The device tells the state of a port, and the driver looks (`DriverKind.reads_back`)."""
    PORTS = "ports"
    """The device can tell that it has no such port."""
    NETWORK = "network"
    """There is something to be cut off from: the driver talks over the network itself."""
    CONNECTION = "connection"
    """There is a connection that can be refused: the driver can tell that nothing was sent."""
    ANSWERS = "answers"
    """The device answers in a form that can be wrong."""
    NEIGHBOURS = "neighbours"
    """The device has more than one port."""


@dataclass(frozen=True, slots=True)
class Case:
    """A driver with the device that it drives, running."""

    device: PowerDevice
    kind: DriverKind
    settings: Callable[[float], Any]
    """Checked settings for this device whose calls give up after so many seconds."""
    secrets: Secrets
    ports: tuple[str, str]
    """Two that exist, as the settings name them. Keys of `device.states`."""
    no_port: str = ""
    """One that does not exist but passes the settings' checks; needs `PORTS`."""
    called: str = "127.0.0.1"
    """How an error's text names the device."""
    secret_texts: Sequence[str] = ()
    """What must not be in any error's text."""

    def open(self, *, limit_s: float = 10) -> PowerDriver:
        """A new driver."""
        driver: PowerDriver = self.kind.open(self.settings(limit_s), self.secrets)
        return driver


@dataclass(frozen=True, slots=True)
class Harness:
    """How a case comes about."""

    name: str
    start: Callable[[Path], AbstractAsyncContextManager[Case]]
    """With a folder for its files. Stops the device in the end; may `pytest.skip` what is not installed, with the reason."""
    lacks: Mapping[Trait, str] = field(default_factory=dict)
    """What the device has not got, and why that is so."""
    marks: Sequence[pytest.MarkDecorator] = ()


def all_harnesses() -> list[Harness]:
    """Of all modules here, by name."""
    modules = [
        importlib.import_module(f"{power_devices.__name__}.{found.name}")
        for found in pkgutil.iter_modules(power_devices.__path__)
        if found.name != "harness"
    ]
    return sorted((each for module in modules for each in module.HARNESSES), key=lambda each: str(each.name))
