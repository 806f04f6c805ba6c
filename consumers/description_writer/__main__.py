"""`labkeeper writer`: parse, connect, serve."""

from __future__ import annotations

import asyncio
import gc
from datetime import timedelta
from typing import Any

import click

from consumers.description_writer.power import PowerResults
from consumers.description_writer.service import DescriptionWriter
from consumers.description_writer.settings import WriterSettings
from pipeline import command as commands
from pipeline.clock import SystemClock
from pipeline.factory import open_broker, open_store
from pipeline.service import serve, together
from pipeline.settings import Connections

_DEFAULTS = WriterSettings()
_RELAXED = (50_000, 20, 100)
"""When to look for garbage cycles. A batch makes thousands of objects without any, and thousands of remembered rows would
be looked through again and again."""


@click.command("writer")
@commands.connection_options
@click.option(
    "--max-records",
    type=click.IntRange(1, 10_000),
    default=_DEFAULTS.max_records,
    show_default=True,
    help="Events in one transaction at most.",
)
@click.option(
    "--max-wait-ms",
    type=click.IntRange(0, 10_000),
    default=_DEFAULTS.max_wait // timedelta(milliseconds=1),
    show_default=True,
    help="How long a batch that is not full waits for more events.",
)
@click.option(
    "--max-event-bytes",
    type=click.IntRange(1024, 64 << 20),
    default=_DEFAULTS.max_event_bytes,
    show_default=True,
    help="Largest event applied; give the facade the same limit.",
)
@commands.service_options
def command(max_records: int, max_wait_ms: int, max_event_bytes: int, **options: Any) -> None:
    """Turn machines' events into rows, and tell the changes.

    Reads `machine.events` and `power.results`, applies each batch in one transaction, publishes `machine.changes`. Start
    as many as you like: they share the work. What cannot be processed is parked; see `labkeeper dead --help`.

    \b
      labkeeper writer --database-url postgresql:///labkeeper
    """
    connections, service = commands.settings(options)
    settings = WriterSettings(
        max_event_bytes=max_event_bytes,
        max_records=max_records,
        max_wait=timedelta(milliseconds=max_wait_ms),
    )

    gc.set_threshold(*_RELAXED)

    async def work(stop: asyncio.Event) -> None:
        await _write(connections, settings, stop)

    serve("writer", work, service)


async def _write(connections: Connections, settings: WriterSettings, stop: asyncio.Event) -> None:
    async with open_store(connections, stop) as store, open_broker(connections) as broker:
        clock = SystemClock()
        await together(
            DescriptionWriter(store, broker, clock, settings).run(stop),
            PowerResults(store, broker, clock, settings.reject_limit).run(stop),
        )


if __name__ == "__main__":
    commands.run(command)
