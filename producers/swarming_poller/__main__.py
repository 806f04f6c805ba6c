"""`labkeeper swarming-poller`: parse, connect, poll."""

from __future__ import annotations

import asyncio
import os
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import click

from pipeline import command as commands
from pipeline.clock import SystemClock
from pipeline.factory import open_broker
from pipeline.service import serve
from pipeline.settings import Connections, is_loopback
from producers.swarming_poller.service import Poller
from producers.swarming_poller.settings import PollerSettings, PoolOfBots, TokenSource

_TOKEN_VARIABLE: Final = "LABKEEPER_SWARMING_TOKEN"  # noqa: S105  # the name of a variable
_DEFAULTS: Final = PollerSettings(())


def _pools(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[PoolOfBots, ...]:
    return tuple(dict.fromkeys(_pool(value) for value in values))


def _pool(text: str) -> PoolOfBots:
    server, equals, pool = text.rpartition("=")
    parts = urlsplit(server)
    if not (equals and pool and parts.hostname and parts.scheme in ("http", "https")):
        raise click.BadParameter(
            f"{text!r}: expected SERVER=POOL, such as https://chromium-swarm.appspot.com=Skia"
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise click.BadParameter(f"{text!r}: a token must not travel in the clear: use https")
    return PoolOfBots(server.rstrip("/"), pool)


@click.command("swarming-poller")
@commands.publishing_options
@click.option(
    "--bots",
    "pools",
    multiple=True,
    required=True,
    callback=_pools,
    metavar="SERVER=POOL",
    help="A Swarming server and one of its pools. Repeat it for more.",
)
@click.option(
    "--period",
    type=click.FloatRange(1, 86_400),
    default=_DEFAULTS.period.total_seconds(),
    show_default=True,
    help="Seconds from one round to the next.",
)
@click.option(
    "--requests-per-second",
    type=click.FloatRange(0, 1000, min_open=True),
    default=_DEFAULTS.requests_per_second,
    show_default=True,
    help="To each server, at most.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with an OAuth access token; read anew in every round.",
)
@click.option(
    "--token-command",
    metavar="COMMAND",
    help=f"Program that prints a token, such as 'luci-auth token'. Or put the token itself into {_TOKEN_VARIABLE}.",
)
@commands.service_options
def command(
    pools: tuple[PoolOfBots, ...],
    period: float,
    requests_per_second: float,
    token_file: Path | None,
    token_command: str | None,
    **options: Any,
) -> None:
    """Learn from Swarming servers which bots are dead or quarantined, for machines without a monitor of ours.

    Their bots show up as machines: down, when Swarming takes them for dead; recovering, when they are quarantined. What a
    machine's own monitor reports always counts more.

    \b
      labkeeper swarming-poller --bots https://chromium-swarm.appspot.com=Skia --token-command 'luci-auth token'
    """
    connections = commands.take_connections(options)
    if connections is None:
        raise click.UsageError("say where the broker is: --database-url, or --broker kafka or pubsub")
    if token_file is not None and token_command is not None:
        raise click.UsageError("Give --token-file or --token-command, not both.")
    settings = PollerSettings(
        pools,
        period=timedelta(seconds=period),
        requests_per_second=requests_per_second,
        token=TokenSource(
            token_file, tuple(shlex.split(token_command or "")), os.environ.get(_TOKEN_VARIABLE) or None
        ),
    )

    async def work(stop: asyncio.Event) -> None:
        await _poll(connections, settings, stop)

    serve("swarming-poller", work, commands.service_settings(**options))


async def _poll(connections: Connections, settings: PollerSettings, stop: asyncio.Event) -> None:
    async with open_broker(connections) as broker, aiohttp.ClientSession() as session:
        await Poller(session, broker, SystemClock(), settings).run(stop)


if __name__ == "__main__":
    commands.run(command)
