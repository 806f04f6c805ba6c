"""From windows to messages of `fleet.stats`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from pipeline import logs, metrics
from pipeline.broker.protocol import Broker, Outgoing
from pipeline.service import persist
from schemas.envelope import STATS_TYPE, metadata
from schemas.fleet_stats import FleetStats
from schemas.topics import FLEET_STATS
from schemas.wire import format_time

_SOURCE: Final = "/labkeeper/fleet-stats"

log = logs.get_logger()


async def tell(broker: Broker, windows: Sequence[Sequence[FleetStats]], stop: asyncio.Event) -> None:
    """Publish the windows, each with all its pools; return once they are safe. Raises `Abandoned`."""
    messages = [message_of(stats) for window in windows for stats in window]
    await persist(partial(broker.publish, messages), "broker_unavailable", stop)
    metrics.STATS_WINDOWS.inc(len(windows))
    latest = windows[-1][0]
    metrics.STATS_TOLD_UNTIL.set(latest.window_end.timestamp())
    log.info(
        "windows_told", windows=len(windows), until=format_time(latest.window_end), machines=latest.machines
    )


def message_of(stats: FleetStats) -> Outgoing:
    """The window of one pool. Made again, it has the same id and the same content."""
    message_id = f"{stats.pool}:{format_time(stats.window_start)}"
    headers = metadata(STATS_TYPE, _SOURCE, message_id=message_id)
    return Outgoing(FLEET_STATS, stats.pool, stats.model_dump_json().encode(), headers)


def count(outcomes: Iterable[str]) -> None:
    """Metrics of changes that were read."""
    for outcome in outcomes:
        metrics.STATS_CHANGES.labels(outcome).inc()
