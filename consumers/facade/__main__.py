"""`labkeeper facade`: parse, connect, serve."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from consumers.facade.service import serve_facade
from consumers.facade.settings import FacadeSettings
from pipeline import command as commands
from pipeline.clock import SystemClock
from pipeline.factory import open_broker, open_store
from pipeline.service import serve
from pipeline.settings import Connections

_DEFAULTS = FacadeSettings()


@click.command("facade")
@commands.connection_options
@click.option(
    "--host",
    default=_DEFAULTS.host,
    show_default=True,
    help="Address to listen on. Other hosts can reach any but a loopback address, so those need --tokens.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=_DEFAULTS.port,
    show_default=True,
    help="Port to listen on; 0 takes a free one, which the log tells.",
)
@click.option(
    "--tokens",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="LABKEEPER_TOKENS",
    show_envvar=True,
    help="File with the API tokens' hashes; see `labkeeper token new --help`.  [default: everybody is let in]",
)
@click.option(
    "--max-event-bytes",
    type=click.IntRange(1024, 64 << 20),
    default=_DEFAULTS.max_event_bytes,
    show_default=True,
    help="Largest event taken.",
)
@click.option(
    "--max-streams",
    type=click.IntRange(1),
    default=_DEFAULTS.max_streams,
    show_default=True,
    help="Event streams open at once; each holds a file descriptor.",
)
@click.option(
    "--machine-metrics/--no-machine-metrics",
    default=_DEFAULTS.machine_metrics,
    show_default=True,
    help="Whether /metrics has gauges of every machine; too much for a fleet of many thousands.",
)
@commands.service_options
def command(
    host: str,
    port: int,
    tokens: Path | None,
    max_event_bytes: int,
    max_streams: int,
    machine_metrics: bool,
    **options: Any,
) -> None:
    """Serve the page for people, the HTTP API and the event streams.

    The old machine server's clients find its routes here unchanged; the new ones are described at /docs. Start as many as
    you like behind a balancer: each keeps its own view of the fleet.

    \b
      labkeeper facade --database-url postgresql:///labkeeper
      labkeeper facade --database-url postgresql:///labkeeper --host 0.0.0.0 --tokens /etc/labkeeper/tokens
    """
    connections, service = commands.settings(options)
    settings = FacadeSettings(
        host=host,
        port=port,
        tokens=tokens,
        max_event_bytes=max_event_bytes,
        max_streams=max_streams,
        machine_metrics=machine_metrics,
    )

    async def work(stop: asyncio.Event) -> None:
        await _serve(connections, settings, stop)

    serve("facade", work, service)


async def _serve(connections: Connections, settings: FacadeSettings, stop: asyncio.Event) -> None:
    async with open_store(connections, stop) as store, open_broker(connections) as broker:
        await serve_facade(store, broker, SystemClock(), settings, stop)


if __name__ == "__main__":
    commands.run(command)
