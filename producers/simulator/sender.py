"""Sends prepared events at a steady rate."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import islice
from typing import Final

from pipeline import logs
from pipeline.clock import Clock
from pipeline.service import Abandoned, persist, wait_for
from producers.simulator.destinations import Destination
from producers.simulator.load import EventSize, load_events
from schemas.wire import to_milliseconds

_TICK_S: Final = 0.01
_AT_ONCE: Final = {EventSize.SMALL: 1000, EventSize.REAL: 100}
"""Events that are published together at most."""
_TELL_EVERY_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Load:
    """How much to send."""

    machines: int
    size: EventSize
    rate: float | None = None
    """Events a second; None: as fast as they are taken."""
    count: int | None = None
    """How many events; None: until stopped."""


async def send(load: Load, destination: Destination, clock: Clock, stop: asyncio.Event) -> int:
    """Send until `count` is reached or `stop` is set; return how many were sent. Falls behind rather than hurries."""
    events = load_events(load.machines, load.size, start_time=to_milliseconds(clock.now()))
    began = told = time.monotonic()
    sent = 0
    while not stop.is_set() and sent != load.count:
        wanted = _wanted(load, sent, elapsed_s=time.monotonic() - began)
        if wanted == 0:
            await wait_for(stop, _TICK_S)
            continue
        batch = list(islice(events, wanted))
        try:
            await persist(lambda: destination.send(batch), "events_not_sent", stop)  # noqa: B023  # awaited right here
        except Abandoned:
            break
        sent += len(batch)
        if time.monotonic() - told > _TELL_EVERY_S:
            told = time.monotonic()
            _tell("load_under_way", sent, told - began)
    _tell("load_sent", sent, time.monotonic() - began)
    return sent


def _wanted(load: Load, sent: int, *, elapsed_s: float) -> int:
    due = _AT_ONCE[load.size] if load.rate is None else int(load.rate * elapsed_s) - sent
    left = due if load.count is None else load.count - sent
    return max(0, min(due, left, _AT_ONCE[load.size]))


def _tell(what: str, sent: int, seconds: float) -> None:
    rate = round(sent / seconds) if seconds > 0 else 0
    logs.get_logger().info(what, events=sent, seconds=round(seconds, 2), per_second=rate)
