"""20,000 events of 500 machines, and operators at work, while three of ten statements fail: as if nothing had happened."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from consumers.description_writer.service import DescriptionWriter
from consumers.description_writer.settings import GROUP, WriterSettings
from pipeline.broker.catalogue import Catalogue
from pipeline.broker.embedded import EmbeddedBroker
from pipeline.broker.protocol import Broker, From, Outgoing, Received
from pipeline.clock import SystemClock
from pipeline.outbox.relay import Relay
from pipeline.processor.operators import mark_down, set_attached_device, set_note
from pipeline.processor.pools import Pools
from pipeline.store.migrations import migrate
from pipeline.store.sql import SqlStore
from pipeline.store.transaction import RetryPolicy
from schemas.changes import MachineChange
from schemas.description import AttachedDevice, Description
from schemas.topics import MACHINE_CHANGES, MACHINE_EVENTS, TOPICS, dead_letters_of
from tests.contract.stores import toggled_power
from tests.integration.cockroach_proxy.faults import Deck, Fault
from tests.integration.cockroach_proxy.proxy import CockroachProxy
from tests.servers.kinds import TestServer
from tests.servers.postgres import new_database

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POOLS = Pools([("Lab", "")])
EVENTS: Final = 20_000
MACHINES: Final = [f"rack{number % 10}-{number:03}" for number in range(500)]
ATTENDED: Final = MACHINES[::16]
"""Report, and have operators who change them meanwhile."""
QUIET: Final = [f"quiet-{number:02}" for number in range(16)]
"""Do not report; have operators, and watchdogs that find them silent."""
EDITS: Final = 2 * len(ATTENDED) + 2 * len(QUIET) + len(QUIET)
"""Two notes or device kinds, two toggles of the power cycle, one mark."""

HURRIED = RetryPolicy(
    first=timedelta(milliseconds=1),
    longest=timedelta(milliseconds=20),
    give_up_after=timedelta(minutes=4),
    statement_timeout=timedelta(seconds=1),
    silence=timedelta(milliseconds=250),
)
STATEMENTS: Final = 2000
FAULTS: Final = {
    Fault.RETRY: 190,
    Fault.RETRY_AFTER_ROWS: 24,
    Fault.AMBIGUOUS_DONE: 24,
    Fault.AMBIGUOUS_UNDONE: 24,
    Fault.DRAINED: 60,
    Fault.DRAINED_DONE: 24,
    Fault.STARTING: 30,
    Fault.RESET_BEFORE: 60,
    Fault.RESET_AFTER: 40,
    Fault.RESET_LATE: 24,
    Fault.CUT_MIDWAY: 40,
    Fault.SILENT_BEFORE: 1,
    Fault.SILENT_AFTER: 1,
    Fault.SLOW: 57,
    Fault.RESTART: 1,
}
"""Among so many statements."""
assert sum(FAULTS.values()) == 0.3 * STATEMENTS


# --- what is sent ------------------------------------------------------------------------------------------------------


def events() -> list[Outgoing]:
    """Reports of machines whose devices come and go.

    Every fourth machine is too old for sequences; every tenth report of the others arrives twice.
    """
    chance = random.Random(7)
    sequences = dict.fromkeys(MACHINES, 0)
    found: list[Outgoing] = []
    while len(found) < EVENTS:
        number = chance.randrange(len(MACHINES))
        machine = MACHINES[number]
        sequence = None if number % 4 == 0 else sequences[machine]
        sequences[machine] += 1
        message = Outgoing(MACHINE_EVENTS, machine, _event(machine, sequence, chance))
        found += [message] * (1 + (sequence is not None and chance.random() < 0.1))
    return found[:EVENTS]


def _event(machine: str, sequence: int | None, chance: random.Random) -> bytes:
    event: dict[str, Any] = {
        "type": "raw_state",
        "host": {"name": machine, "version": "v1", "start_time": "2026-01-01T00:00:00Z"},
    }
    if sequence is not None:
        event["sequence"] = sequence
    if chance.random() < 0.9:
        event["ios"] = {"device_type": "iPhone10,1", "version": "13.3.1", "battery": chance.randint(10, 100)}
    return json.dumps(event).encode()


async def operate(store: SqlStore, machines: Sequence[str]) -> None:
    """Two edits of each machine, one after the other; none depends on what its events do."""
    for number, machine in enumerate(machines):
        for user in ("ann", "jo"):
            edit = (
                partial(set_note, message=f"{user} was here", user=user, now=NOW)
                if number % 2
                else partial(
                    set_attached_device, device=AttachedDevice.IOS if user == "ann" else AttachedDevice.SSH
                )
            )
            updated = await store.update(machine, edit, now=NOW, who=user, why="because")
            assert updated.kinds


async def toggle(store: SqlStore) -> None:
    for _ in range(2):
        for machine in QUIET:
            await store.update(machine, toggled_power, now=NOW, who="jo")


async def watch(store: SqlStore) -> int:
    """Mark what is silent, and say how many were not marked before."""
    marked = 0
    for machine in QUIET:
        updated = await store.update(machine, partial(mark_down, since=NOW), now=NOW + timedelta(hours=1))
        marked += bool(updated.kinds)
    return marked


# --- a run -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a run leaves behind."""

    rows: dict[str, dict[str, Any]]
    """Every column."""
    history: Counter[tuple[Any, ...]]
    """Every column but the id, which is partly random."""
    announced: Counter[tuple[str, str]]
    """Machines and users in the outbox, before the relay."""


async def run(url: str, store: SqlStore, broker: Broker) -> Outcome:
    """Apply the topic from its beginning, with operators and watchdogs in between, and then publish the outbox."""
    await broker.seek(MACHINE_EVENTS, group=GROUP, to=From.EARLIEST)
    await store.update_many({machine: [_settled] for machine in (*ATTENDED, *QUIET)}, now=NOW)
    stop = asyncio.Event()
    writer = DescriptionWriter(store, broker, SystemClock(), WriterSettings(max_records=500))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run(stop))
        edits = [tasks.create_task(operate(store, ATTENDED[start::2])) for start in (0, 1)]
        edits.append(tasks.create_task(toggle(store)))
        watches = [tasks.create_task(watch(store)) for _ in (0, 1)]
        await asyncio.gather(*edits, *watches)
        await until_read(broker)
        stop.set()
    assert sum(watch.result() for watch in watches) == len(QUIET)
    outcome = look(url)
    await relay(url, store, broker)
    return outcome


def _settled(before: Description) -> Description:
    return before.evolve({"last_updated": NOW, "version": "v0"})


async def until_read(broker: Broker) -> None:
    async with asyncio.timeout(240):
        while sum(lag.unread for lag in await broker.lag(MACHINE_EVENTS, group=GROUP)) > 0:
            await asyncio.sleep(0.05)


async def relay(url: str, store: SqlStore, broker: Broker) -> None:
    stop = asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(Relay(store, broker).run(stop))
        while query(url, "SELECT 1 FROM outbox LIMIT 1"):
            await asyncio.sleep(0.05)
        stop.set()


def look(url: str) -> Outcome:
    rows = {row["machine_id"]: _plain(row) for (row,) in query(url, "SELECT to_jsonb(d) FROM descriptions d")}
    history = query(url, "SELECT machine_id, at, kind, who, before, after, why FROM machine_history")
    announced = query(url, "SELECT key, convert_from(value, 'UTF8')::JSONB ->> 'who' FROM outbox")
    return Outcome(rows, Counter(history), Counter(announced))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """The words to search for stand in the order of the dimensions, and JSONB keeps none."""
    return {**row, "search_text": sorted(row["search_text"].split("\n"))}


def query(url: str, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


@pytest.fixture
def databases(postgres_server: TestServer) -> Iterator[tuple[str, str, str]]:
    """Of the broker, of a run in peace, of a run among faults."""
    with contextlib.ExitStack() as stack:
        broker, calm, rough = [stack.enter_context(new_database(postgres_server)) for _ in range(3)]
        migrate(calm)
        migrate(rough)
        yield broker, calm, rough


@asynccontextmanager
async def opened_broker(url: str) -> AsyncIterator[EmbeddedBroker]:
    """With one partition for the events: what is a batch then depends on nothing but the topic."""
    topics = [replace(topic, partitions=1) for topic in TOPICS]
    broker = EmbeddedBroker(url, Catalogue(topics), lease=timedelta(minutes=1))
    try:
        yield broker
    finally:
        await broker.close()


@asynccontextmanager
async def opened_store(url: str, retries: Counter[str]) -> AsyncIterator[SqlStore]:
    store = SqlStore(
        url, pools=POOLS, policy=HURRIED, on_retry=lambda reason, _fault: retries.update([reason])
    )
    try:
        yield store
    finally:
        await store.close()


async def read_all(broker: Broker, topic: str, *, after: int = -1) -> list[Received]:
    """Everything behind this offset of the one partition."""
    found: list[Received] = []
    while messages := await broker.fetch(topic, after={0: after}, limit=1000):
        found += messages
        after = messages[-1].offset
    return found


async def check_changes(url: str, messages: Sequence[Received]) -> None:
    """Every version of every machine was told, each of one state, and the last one is the row."""
    told: dict[str, dict[int, Description]] = {}
    for message in messages:
        change = MachineChange.model_validate_json(message.value)
        assert (
            told.setdefault(change.id, {}).setdefault(change.version, change.description)
            == change.description
        )
    store = SqlStore(url)
    rows = {machine.dimension("id")[0]: machine for machine in (await store.list()).machines}
    await store.close()
    assert {machine: states[max(states)] for machine, states in told.items()} == rows
    for machine, states in told.items():
        first = 2 if machine in ATTENDED or machine in QUIET else 1  # those were there before the run
        assert sorted(states) == list(range(first, rows[machine].row_version + 1))


async def test_three_faults_in_ten_statements_leave_no_trace(
    databases: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    broker_url, calm_url, rough_url = databases
    retries: Counter[str] = Counter()
    deck = Deck(FAULTS, statements=STATEMENTS, seed=20260301)
    async with opened_broker(broker_url) as broker:
        messages = events()
        for start in range(0, EVENTS, 500):
            await broker.publish(messages[start : start + 500])
        async with opened_store(calm_url, Counter()) as store:
            expected = await run(calm_url, store, broker)
        before = (await read_all(broker, MACHINE_CHANGES))[-1].offset
        with CockroachProxy.in_front_of(rough_url, deck, pause_s=0.01, down_s=1) as proxy:
            async with opened_store(make_dsn(proxy.dsn, connect_timeout=2), retries) as store:
                found = await run(rough_url, store, broker)
        with capsys.disabled():
            sys.stdout.write(f"\n{proxy.report()}\nretries: {dict(retries.most_common())}\n")

        assert found.rows == expected.rows
        assert found.history == expected.history
        assert found.announced == expected.announced
        await check_changes(rough_url, await read_all(broker, MACHINE_CHANGES, after=before))
        assert await broker.fetch(dead_letters_of(MACHINE_EVENTS)) == []
    assert len(found.rows) == len(MACHINES) + len(QUIET)
    assert found.announced.total() == EDITS
    assert proxy.injected.total() > 0.28 * proxy.statements
    assert {fault: proxy.injected[fault] for fault in FAULTS if proxy.injected[fault] < 3} == {}
