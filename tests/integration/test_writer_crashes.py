"""The writer is killed, cut off and doubled; in the end the rows are those of a single undisturbed reading of the topic."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import psycopg2
import pytest

from pipeline.broker.protocol import Broker, Outgoing
from pipeline.factory import open_broker, open_store
from pipeline.processor.pools import Pools
from pipeline.service import persist
from pipeline.settings import Connections
from pipeline.store.migrations import migrate
from schemas.topics import MACHINE_EVENTS
from tests.failures.checks import NONE, UNTOLD_BY_A_KILL, Allowance, complaints
from tests.failures.evidence import gather, rows_of, unread
from tests.failures.workload import POOLS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

MACHINES = [f"rack{number % 4}-{number:02}" for number in range(40)]
EVENTS = 6_000
MANY_TIMES = 20
PATIENCE_S = 300
Result = TypeVar("Result")


@pytest.fixture
def lab(database_url: str) -> Connections:
    migrate(database_url)
    return Connections(database_url, pools=Pools(POOLS))


@contextlib.contextmanager
def writer(lab: Connections) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "LABKEEPER_DATABASE_URL": lab.database_url, "LABKEEPER_LOG_LEVEL": "error"}
    process = subprocess.Popen(
        [sys.executable, "-m", "consumers.description_writer", "--max-records", "100"], env=environment
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def events(count: int, *, seed: int = 1) -> Iterator[Outgoing]:
    """Reports of machines whose devices come and go; every one has a sequence, so that it has effect only once."""
    chance = random.Random(seed)
    sequences = dict.fromkeys(MACHINES, 0)
    for _ in range(count):
        machine = chance.choice(MACHINES)
        yield Outgoing(MACHINE_EVENTS, machine, _event(machine, sequences[machine], chance))
        sequences[machine] += 1


def _event(machine: str, sequence: int, chance: random.Random) -> bytes:
    event: dict[str, Any] = {
        "type": "raw_state",
        "host": {"name": machine, "version": "v1", "start_time": "2026-01-01T00:00:00Z"},
        "sequence": sequence,
    }
    if chance.random() < 0.9:
        event["ios"] = {"device_type": "iPhone10,1", "version": "13.3.1", "battery": chance.randint(10, 100)}
    return json.dumps(event).encode()


async def publish(broker: Broker, messages: Iterator[Outgoing]) -> None:
    """Publish in order; what may or may not have been published is published again, as a monitor would."""
    for part in iter(lambda: list(islice(messages, 50)), []):
        await stubbornly(partial(broker.publish, part))


async def stubbornly(attempt: Callable[[], Awaitable[Result]]) -> Result:
    return await persist(attempt, "cut", asyncio.Event())


async def until_read(broker: Broker, *, down_to: int = 0) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await stubbornly(partial(unread, broker)) > down_to:
            await asyncio.sleep(0.02)


async def check_outcome(lab: Connections, broker: Broker, allowance: Allowance = NONE) -> None:
    """Rows, history, changes and dead letters are what they must be."""
    async with open_store(lab) as store:
        rows = await rows_of(store)
        evidence = await gather(store, broker, published=0, listed=rows, watched=rows)
    assert await complaints(evidence, allowance) == []


async def test_a_writer_that_is_killed_again_and_again_loses_and_doubles_nothing(lab: Connections) -> None:
    async with open_broker(lab) as broker:
        await publish(broker, events(EVENTS))
        kills = (5_000, 3_500, 2_000, 500)
        for left in kills:
            with writer(lab) as victim:
                await until_read(broker, down_to=left)
                victim.send_signal(signal.SIGKILL)
        with writer(lab):
            await until_read(broker)
        await check_outcome(lab, broker, Allowance(untold_versions=len(kills) * UNTOLD_BY_A_KILL))


async def test_two_writers_whose_connections_are_cut_all_the_time_lose_and_double_nothing(
    lab: Connections,
) -> None:
    async with open_broker(lab) as broker:
        with writer(lab), writer(lab):
            publishing = asyncio.create_task(publish(broker, events(EVENTS)))
            for _ in range(12):
                await asyncio.sleep(0.3)
                cut_connections(lab.database_url)
            await publishing
            await until_read(broker)
        await check_outcome(lab, broker)


def cut_connections(database_url: str) -> None:
    """Terminate every session of the lab, whatever it is doing: the writers' and our own."""
    with contextlib.closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def test_a_writer_that_is_asked_to_stop_under_load_acknowledges_what_it_has_done(
    lab: Connections,
) -> None:
    reports, published, left = events(MANY_TIMES * EVENTS), 0, 0
    async with open_broker(lab) as broker:
        while left == 0:  # it may have read everything before it heard of our wish
            await publish(broker, islice(reports, EVENTS))
            published += EVENTS
            with writer(lab) as process:
                await until_read(broker, down_to=EVENTS - 500)
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0
            left = await stubbornly(partial(unread, broker))
        assert left < EVENTS
        async with open_store(lab) as store:
            done = [machine.monitor_sequence + 1 for machine in (await store.list()).machines]
        assert sum(done) == published - left
