"""`python -m tests.failures.producer`: publishes a workload, and writes down how much of it the broker has taken.

Killed and started again it goes on where its journal ends, so at most one chunk is published twice, as a monitor's spool
would do. It goes on, at a lower rate, until the test lets it end: on a slow computer a test takes longer than its load.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click

from pipeline import command as commands
from pipeline.errors import Misconfigured
from pipeline.factory import open_broker
from pipeline.service import Abandoned, persist, serve, wait_for
from pipeline.settings import Connections
from tests.failures.workload import Workload

_CHUNK: Final = 100
_RATE_BEYOND: Final = 300.0
"""No machine is silent for long at this one."""


def acknowledged(journal: Path) -> int:
    """How many messages the broker has taken, from the first on."""
    if not journal.exists():
        return 0
    *_, last = [0, *map(int, journal.read_text().splitlines())]
    return last


def let_end(journal: Path) -> None:
    """The producer of this journal need publish no more than its workload has."""
    _leave(journal).touch()


def _leave(journal: Path) -> Path:
    return journal.with_suffix(".may-end")


@click.command()
@click.option("--journal", type=click.Path(path_type=Path), required=True)
@click.option("--messages", type=int, required=True)
@click.option("--machines", type=int, required=True)
@click.option("--rate", type=float, required=True, help="Messages a second at most.")
@commands.publishing_options
@commands.service_options
def command(journal: Path, messages: int, machines: int, rate: float, **options: Any) -> None:
    """Publish all messages that the journal does not have, and more until it may end."""
    connections = commands.take_connections(options)
    if connections is None:
        raise Misconfigured("name a broker")

    async def work(stop: asyncio.Event) -> None:
        await _publish(connections, Workload(messages, machines), journal, rate, stop)

    serve("producer", work, commands.service_settings(**options))


async def _publish(
    connections: Connections, workload: Workload, journal: Path, rate: float, stop: asyncio.Event
) -> None:
    done = acknowledged(journal)
    messages = workload.outgoing(start=done)
    async with open_broker(connections) as broker:
        with journal.open("a") as book:
            while not stop.is_set() and not (done >= workload.messages and _leave(journal).exists()):
                pace_s = _CHUNK / (rate if done < workload.messages else _RATE_BEYOND)
                chunk = list(islice(messages, _CHUNK))
                began = time.monotonic()
                try:
                    await persist(partial(broker.publish, chunk), "not_published", stop)
                except Abandoned:
                    return
                done += len(chunk)
                book.write(f"{done}\n")
                book.flush()
                await wait_for(stop, pace_s - (time.monotonic() - began))


if __name__ == "__main__":
    commands.run(command)
