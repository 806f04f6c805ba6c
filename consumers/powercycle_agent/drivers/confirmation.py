"""Telling a device what a port is to be, and waiting until it says that it is so: the same for most kinds."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Final

from consumers.powercycle_agent.drivers.errors import (
    NotConfirmed,
    NotReached,
    TurnedAway,
    UnknownPort,
    Unreachable,
)
from consumers.powercycle_agent.drivers.limits import within
from consumers.powercycle_agent.drivers.protocol import PortState

_SHORTEST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.5


async def confirm(
    status: Callable[[str], Awaitable[PortState]],
    port: str,
    wanted: PortState,
    *,
    device: str,
    within_s: float = 3.0,
) -> None:
    """Ask, less and less often, until the port is as wanted, at least once. Raises `NotConfirmed` after `within_s`, and
    `Unreachable` if `status` does; whatever else is wrong with the answer is `NotConfirmed`, too: the port may be as it was told.
    """
    deadline = time.monotonic() + within_s
    pause_s = _SHORTEST_PAUSE_S
    while (state := await after_the_command(status(port))) is not wanted:
        if time.monotonic() + pause_s > deadline:
            raise NotConfirmed(
                f"port {port} of {device} is {state}, not {wanted}, {within_s:g} s after the device took the command"
            )
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def after_the_command(asked: Awaitable[PortState]) -> PortState:
    """What a device says that was told already, and so may have switched: `TurnedAway`, `UnknownPort` and `NotReached` would
    deny that. Raises `Unreachable` or `NotConfirmed` in their place.
    """
    try:
        return await asked
    except NotReached as error:
        raise Unreachable(f"the device was told, and then: {error}") from error
    except (TurnedAway, UnknownPort) as error:
        raise NotConfirmed(f"the device was told, and then: {error}") from error


class ConfirmingDriver(ABC):
    """`on` and `off` of a driver whose device is told once, and then asked until it is so."""

    def __init__(self, device: str, *, limit_s: float, confirm_s: float | None) -> None:
        """`device`: how errors name it. `limit_s`: for a whole call. `confirm_s`: for the port to be as told; None: the
        device cannot be asked.
        """
        self.device = device
        self._limit_s = limit_s
        self._confirm_s = confirm_s

    async def on(self, port: str) -> None:
        await self._turn(port, PortState.ON)

    async def off(self, port: str) -> None:
        await self._turn(port, PortState.OFF)

    @abstractmethod
    async def status(self, port: str) -> PortState:
        """What the device says."""

    @abstractmethod
    async def tell(self, port: str, wanted: PortState) -> None:
        """Tell the device what the port is to be, once. Need not wait until it is so."""

    async def _turn(self, port: str, wanted: PortState) -> None:
        async with within(self._limit_s, self.device):
            await self.tell(port, wanted)
            if self._confirm_s is not None:
                await confirm(self.status, port, wanted, device=self.device, within_s=self._confirm_s)
