"""A lab to measure: durable servers of its own, the services as processes, and a way to fill it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psycopg2

from infra.servers.kafka.server import KafkaServer
from infra.servers.postgres import PostgresServer
from pipeline.broker.protocol import Broker, Outgoing
from pipeline.clock import SystemClock
from pipeline.factory import open_broker
from pipeline.processor.pools import Pools
from pipeline.settings import BrokerKind, Connections, KafkaSettings
from pipeline.store.migrations import migrate
from producers.simulator.load import EventSize, load_events
from schemas.topics import MACHINE_EVENTS

PUBLISH_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Ground:
    """The servers that labs are made on."""

    postgres: PostgresServer
    kafka: str | None = None
    """`host:port` of a Kafka broker; None: the topics are in the database."""

    async def new_lab(self, name: str) -> Connections:
        """An empty lab in a database and on topics of its own."""
        with contextlib.closing(psycopg2.connect(self.postgres.dsn)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f'CREATE DATABASE "{name}"')
        lab = Connections(
            self.postgres.dsn.replace("/labkeeper?", f"/{name}?"),
            BrokerKind.KAFKA if self.kafka else BrokerKind.EMBEDDED,
            topic_prefix=name,
            pools=Pools([("Lab", "")]),
            kafka=KafkaSettings((self.kafka,)) if self.kafka else KafkaSettings(),
        )
        migrate(lab.database_url)
        async with open_broker(lab) as broker:
            await broker.create_topics()
        return lab


@contextlib.contextmanager
def ground(kind: BrokerKind) -> Iterator[Ground]:
    """Servers that really write to disk, and are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="labkeeper-bench-"))
    try:
        with contextlib.ExitStack() as stack:
            postgres = stack.enter_context(PostgresServer.start(folder / "postgres"))
            if kind is BrokerKind.EMBEDDED:
                yield Ground(postgres)
            else:
                kafka = stack.enter_context(KafkaServer.start(folder / "kafka"))
                yield Ground(postgres, kafka.bootstrap)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def environment(lab: Connections | None) -> dict[str, str]:
    """What a process of the lab finds in its environment. None: it is to reach neither database nor broker."""
    if lab is None:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("LABKEEPER_")}
        return {**ours, "LABKEEPER_LOG_LEVEL": "warning"}
    return {
        **os.environ,
        "LABKEEPER_DATABASE_URL": lab.database_url,
        "LABKEEPER_BROKER": lab.broker.value,
        "LABKEEPER_KAFKA_SERVERS": ",".join(lab.kafka.servers),
        "LABKEEPER_TOPIC_PREFIX": lab.topic_prefix,
        "LABKEEPER_LOG_LEVEL": "warning",
    }


def start(module: str, lab: Connections | None, *arguments: str) -> subprocess.Popen[bytes]:
    """One of our services as a process of its own, as `labkeeper up` starts it."""
    return subprocess.Popen([sys.executable, "-m", module, *arguments], env=environment(lab))


@contextlib.contextmanager
def running(module: str, lab: Connections | None, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The same, stopped at the end."""
    process = start(module, lab, *arguments)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


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
