"""How long a call may take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

from pydantic import Field

from consumers.powercycle_agent.drivers.errors import NotReached, Unreachable
from consumers.powercycle_agent.drivers.settings import ControllerSettings

CONNECTING: Final = 0.8
"""Part of a call's limit in which a connection must be made: so the end of that part is not mistaken for a device's silence."""


class LimitedSettings(ControllerSettings):
    """A controller whose calls have limits that an entry may change."""

    limit_s: Annotated[float, Field(gt=0, le=300)] = 10
    """Seconds that a call may take."""
    confirm_s: Annotated[float, Field(gt=0, le=300)] = 5
    """Seconds that a port may take to be as it was told."""


@asynccontextmanager
async def within(limit_s: float, device: str) -> AsyncIterator[None]:
    """Raises `Unreachable` when the block takes longer than `limit_s`."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as error:
        raise Unreachable(f"{device} did not answer within {limit_s:g} s") from error


@asynccontextmanager
async def connecting_within(limit_s: float, device: str) -> AsyncIterator[None]:
    """For a block that makes a connection, in a call of `limit_s`. Raises `NotReached` when it takes longer than its part."""
    part_s = limit_s * CONNECTING
    try:
        async with asyncio.timeout(part_s):
            yield
    except TimeoutError as error:
        raise NotReached(f"cannot connect to {device}: no answer within {part_s:g} s") from error
