"""Waiting for an event with a bound, and for whichever of some tasks ends first."""

from __future__ import annotations

import asyncio
from typing import Any


async def first_of(*tasks: asyncio.Future[Any]) -> None:
    """Wait for the first, cancel the others, and wait until they have ended. Raises none of their errors."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)  # not one by one: their cancellations could hide ours


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event, at most so long. True when it is set.

    Not by `asyncio.wait_for`: in Python 3.11 that swallows a cancellation which comes together with the event, and a
    task that is being cancelled then lives on.
    """
    if event.is_set() or seconds <= 0:
        return event.is_set()
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
