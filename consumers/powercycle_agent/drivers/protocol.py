"""What every power driver promises. A driver knows one controller and its ports: no machine, no broker, no store.

All drivers, and whatever third parties add by entry point, pass `tests/contract/test_power_driver.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol

from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.settings import ControllerSettings

ENTRY_POINTS = "labkeeper.power_drivers"
"""Group of entry points; each one's name is a key of `powercycle.json5`, and it points to a `DriverKind`."""


class PortState(StrEnum):
    """What a device says of a port."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"
    """The device cannot tell, or is between two states."""


class PowerDriver(Protocol):
    """One controller. Calls come one at a time; each may be cancelled, and each ends within its own limit (10 s unless the
    device needs longer). All raise `DriverError`s and nothing else.

    A driver does what it is told, once: whoever calls it retries, waits and journals. It may keep a connection open between
    calls, and must notice when that has died meanwhile: a call never fails because of an old connection. It raises
    `NotReached` instead of `Unreachable` where it knows for certain that nothing of the call was sent.
    """

    async def on(self, port: str) -> None:
        """Return once the port is on: read back from the device, where it can be asked. On already: success."""
        ...

    async def off(self, port: str) -> None:
        """Return once the port is off: read back, where that is possible. Off already: success. A device that cannot be
        reached is an error, never "off".
        """
        ...

    async def status(self, port: str) -> PortState:
        """What the device says."""
        ...

    async def probe(self) -> None:
        """Return if the device answers and lets us in. Changes nothing."""
        ...

    async def close(self) -> None:
        """Let go of connections. Never raises; may be called twice. Afterwards no other call comes."""
        ...


@dataclass(frozen=True, slots=True)
class DriverKind:
    """A kind of controller: what an entry point leads to."""

    name: str
    """Key in `powercycle.json5`, such as `edgeswitch`."""
    settings: type[ControllerSettings]
    """What an entry under that key may say. Unknown keys are refused."""
    open: Callable[[Any, Secrets], PowerDriver]
    """Make a driver from checked settings. Touches neither network nor disk; raises `NotInstalled`."""
    off_for: timedelta = timedelta(seconds=5)
    """How long a port stays off in a cycle, unless configuration or command says otherwise."""
    reads_back: bool = True
    """Whether `on` and `off` are confirmed by the device's own state."""
    soft_reboot: bool = False
    """Whether a machine is asked to reboot over SSH before its port is touched, unless the configuration says otherwise."""
