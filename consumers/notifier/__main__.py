"""`labkeeper notifier`: parse, connect, tell."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import click

from consumers.notifier.channels import NotSent, open_channels
from consumers.notifier.configuration import read_configuration
from consumers.notifier.messages import Message
from consumers.notifier.notices import NoticeKind
from consumers.notifier.places import FilePlaces
from consumers.notifier.service import Notifier, Tools
from consumers.notifier.settings import NotifierSettings
from pipeline import command as commands
from pipeline.clock import SystemClock
from pipeline.command import CommandFailed
from pipeline.errors import Misconfigured
from pipeline.factory import open_broker, open_store
from pipeline.service import serve
from pipeline.settings import Connections
from schemas.ids import new_ulid


@click.command("notifier")
@partial(commands.connection_options, needs_database=False)
@click.option(
    "--config",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="LABKEEPER_NOTIFIER_CONFIG",
    show_envvar=True,
    required=True,
    help="JSON5 file of channels and routes, see docs/notifications.md. Read again when it changes.",
)
@click.option("--test", is_flag=True, help="Check the file, send a test message to every channel, and end.")
@commands.service_options
def command(path: Path, test: bool, **options: Any) -> None:
    """Tell people what happens: by webhook, Slack and mail.

    Machines that fall silent and come back, self-healing that worked or gave up, quarantines, and power controllers that do
    not answer; grouped, so that a lost switch is one message. Start a second one for safety: it stands by.

    \b
      labkeeper notifier --config /etc/labkeeper/notifier.json5 --test
    """
    connections, service = commands.settings(options)
    if test:
        asyncio.run(_try(path))
        return
    if not connections.database_url:
        raise click.UsageError("say where the lab's database is: --database-url (only --test does without)")

    async def work(stop: asyncio.Event) -> None:
        await _tell(connections, path, stop)

    serve("notifier", work, service)


async def _tell(connections: Connections, path: Path, stop: asyncio.Event) -> None:
    clock = SystemClock()
    async with (
        aiohttp.ClientSession() as session,
        open_store(connections, stop) as store,
        open_broker(connections) as broker,
    ):
        places = FilePlaces(path, session, os.environ, clock)
        await Notifier(broker, Tools(store, clock, places, NotifierSettings())).run(stop)


async def _try(path: Path) -> None:
    """Raises `CommandFailed` when a channel did not take it; the others have been tried nevertheless."""
    clock = SystemClock()
    configuration = read_configuration(path)
    failed = []
    async with aiohttp.ClientSession() as session:
        for name, channel in open_channels(configuration, session, os.environ, clock).items():
            try:
                await channel.send(_trial(clock.now(), configuration.page))
            except (NotSent, Misconfigured) as error:
                failed.append(name)
                click.echo(f"{name}: {error}", err=True)
            else:
                click.echo(f"{name}: sent")
    if failed:
        raise CommandFailed(f"not sent: {', '.join(failed)}")


def _trial(now: datetime, page: str | None) -> Message:
    """About no machine; programs know it by that."""
    return Message(
        id=new_ulid(),
        kind=NoticeKind.BACK,
        at=now,
        headline="This is a test message of Labkeeper's notifier",
        common=["All is well."],
        notices=[],
        count=0,
        page=page,
    )


if __name__ == "__main__":
    commands.run(command)
