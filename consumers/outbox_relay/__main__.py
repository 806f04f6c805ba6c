"""`labkeeper relay`: parse, connect, serve."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from pipeline import command as commands
from pipeline.broker.greeting import greet
from pipeline.factory import open_broker, open_store
from pipeline.outbox.relay import Relay
from pipeline.service import serve
from pipeline.settings import Connections


@click.command("relay")
@commands.connection_options
@commands.service_options
def command(**options: Any) -> None:
    """Publish what operators changed.

    An operator's action, or the watchdog's, is written together with the message that tells of it; the relay publishes
    those messages in order. Start a second one for safety: it stands by.

    \b
      labkeeper relay --database-url postgresql:///labkeeper
    """
    connections, service = commands.settings(options)

    async def work(stop: asyncio.Event) -> None:
        await _relay(connections, stop)

    serve("relay", work, service)


async def _relay(connections: Connections, stop: asyncio.Event) -> None:
    async with open_store(connections, stop) as store, open_broker(connections) as broker:
        await greet(broker, stop)
        await Relay(store, broker).run(stop)


if __name__ == "__main__":
    commands.run(command)
