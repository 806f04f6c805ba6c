"""A lab to measure: a durable PostgreSQL of its own, the services as processes, and a way to fill it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psycopg2

from infra.servers.postgres import PostgresServer
from pipeline.broker.protocol import Broker, Outgoing
from pipeline.clock import SystemClock
from pipeline.factory import open_broker
from pipeline.processor.pools import Pools
from pipeline.settings import Connections
from pipeline.store.migrations import migrate
from producers.simulator.load import EventSize, load_events
from schemas.topics import MACHINE_EVENTS

PUBLISH_AT_ONCE = 500


@contextlib.contextmanager
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that really writes to disk, and is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="labkeeper-bench-"))
    try:
        with PostgresServer.start(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_lab(postgres: PostgresServer, name: str) -> Connections:
    """An empty lab in a database of its own."""
    with contextlib.closing(psycopg2.connect(postgres.dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"')
    pools = Pools([("Lab", "")])
    connections = Connections(postgres.dsn.replace("/labkeeper?", f"/{name}?"), pools=pools)
    migrate(connections.database_url)
    return connections


def start(module: str, connections: Connections, *arguments: str) -> subprocess.Popen[bytes]:
    """One of our services as a process of its own, as `labkeeper up` starts it."""
    environment = {
        **os.environ,
        "LABKEEPER_DATABASE_URL": connections.database_url,
        "LABKEEPER_LOG_LEVEL": "warning",
    }
    return subprocess.Popen([sys.executable, "-m", module, *arguments], env=environment)


@contextlib.contextmanager
def running(module: str, connections: Connections, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The same, stopped at the end."""
    process = start(module, connections, *arguments)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@contextlib.asynccontextmanager
async def opened_broker(connections: Connections) -> AsyncIterator[Broker]:
    """The lab's broker."""
    async with open_broker(connections) as broker:
        yield broker


@dataclass(frozen=True, slots=True)
class Load:
    """Events to be processed."""

    size: EventSize
    machines: int
    count: int
    stride: int = 1
    """Take every so manieth machine only, to spread few events over a large fleet."""

    def events(self) -> Iterator[tuple[str, bytes]]:
        """Machine id and value of each."""
        events = load_events(self.machines, self.size, start_time=SystemClock().now())
        return islice(events, 0, self.count * self.stride, self.stride)

    def messages(self) -> Iterator[Outgoing]:
        """Each as a message."""
        return (Outgoing(MACHINE_EVENTS, machine_id, value) for machine_id, value in self.events())


async def fill(broker: Broker, messages: Iterator[Outgoing]) -> None:
    """Publish all of the messages, as fast as the broker takes them."""
    while part := list(islice(messages, PUBLISH_AT_ONCE)):
        await broker.publish(part)
