"""Waiting until a device says that a port is as it was told to be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from consumers.powercycle_agent.drivers.errors import NotConfirmed
from consumers.powercycle_agent.drivers.protocol import PortState


async def confirm(
    status: Callable[[str], Awaitable[PortState]],
    port: str,
    wanted: PortState,
    *,
    within_s: float = 5.0,
    every_s: float = 0.2,
) -> None:
    """Ask until the port is as wanted, at least once. Raises `NotConfirmed` after `within_s`, and what `status` raises."""
    deadline = time.monotonic() + within_s
    while (state := await status(port)) is not wanted:
        if time.monotonic() + every_s > deadline:
            raise NotConfirmed(
                f"port {port} is {state}, not {wanted}, {within_s:g} s after the device took the command"
            )
        await asyncio.sleep(every_s)
