"""The embedded broker against what PostgreSQL and the operating system can do to it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from infra.servers.postgres import PostgresServer
from pipeline.broker import embedded_log, embedded_publisher
from pipeline.broker.catalogue import Catalogue
from pipeline.broker.embedded import EmbeddedBroker
from pipeline.broker.embedded_log import Block
from pipeline.broker.embedded_session import Cursor
from pipeline.broker.embedded_subscription import EmbeddedSubscription
from pipeline.broker.partitions import partition_of
from pipeline.broker.protocol import From, Outgoing, Received, Subscription
from pipeline.broker.record_batch import encode, record_of
from pipeline.clock import ManualClock, SystemClock
from pipeline.errors import BrokerUnavailable, Misconfigured
from schemas.topics import MACHINE_EVENTS, Topic
from tests.integration.children import child, line_of

pytestmark = pytest.mark.integration
PATIENCE_S = 60.0
SOON_S = 20.0
LEASE = timedelta(seconds=4)
CHILDS_LEASE_S = 1.0
"""Of readers that are killed or stopped."""


def events(numbers: range, *, keys: int = 40) -> list[Outgoing]:
    return [Outgoing(MACHINE_EVENTS, f"machine-{number % keys}", str(number).encode()) for number in numbers]


@pytest.fixture
async def broker(database_url: str) -> AsyncIterator[EmbeddedBroker]:
    broker = EmbeddedBroker(database_url, lease=LEASE)
    yield broker
    await broker.close()


@contextlib.contextmanager
def statements(url: str) -> Iterator[Cursor]:
    """A cursor of a connection of its own, in autocommit mode."""
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


async def take(subscription: Subscription, count: int) -> list[Received]:
    messages: list[Received] = []
    async with asyncio.timeout(PATIENCE_S):
        async for batch in subscription:
            messages += batch.messages
            await subscription.acknowledge(batch)
            if len(messages) >= count:
                break
    return messages


def assert_gapless(messages: Sequence[Received]) -> None:
    by_partition = defaultdict(list)
    for message in messages:
        by_partition[message.partition].append(message)
    for own in by_partition.values():
        assert all(a.offset + 1 == b.offset and a.published_at <= b.published_at for a, b in pairwise(own))


def block(partition_id: int, value: bytes) -> Block:
    """One message, ready to be published by hand."""
    record = record_of(Outgoing(MACHINE_EVENTS, "k", value))
    return Block(partition_id, 1, record.size, encode([record]))


async def test_a_killed_readers_messages_pass_on_when_its_lease_has_run_out(
    broker: EmbeddedBroker, database_url: str
) -> None:
    with child("embedded_reader", database_url, "readers", CHILDS_LEASE_S) as process:
        assert await line_of(process) == "reading"
        await broker.publish([Outgoing(MACHINE_EVENTS, "m", b"done")])
        assert await line_of(process) == "done"
        await broker.publish([Outgoing(MACHINE_EVENTS, "m", b"hold")])
        while (line := await line_of(process)) == "done":
            pass  # again: it was without the CPU for a lease
        assert line == "hold"
        process.kill()
        killed = time.monotonic()
        async with broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
            messages = await take(subscription, 1)
            while messages[-1].value == b"done":
                messages += await take(subscription, 1)
        assert time.monotonic() - killed < SOON_S
    assert messages[-1].value == b"hold"


async def test_a_stopped_reader_holds_nobody_up_and_comes_back_in_peace(
    broker: EmbeddedBroker, database_url: str
) -> None:
    with child("embedded_reader", database_url, "readers", CHILDS_LEASE_S) as process:
        assert await line_of(process) == "reading"
        process.send_signal(signal.SIGSTOP)
        async with broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
            await broker.publish(events(range(100)))
            messages = await take(subscription, 100)
            process.send_signal(signal.SIGCONT)
        await broker.publish(events(range(100, 200)))
        seen: set[int] = set()
        while not seen >= set(range(100, 200)):
            seen |= set(map(int, (await line_of(process)).split()))
    assert sorted(int(message.value) for message in messages) == list(range(100))


async def test_eight_publishers_in_four_processes_leave_no_gap(
    broker: EmbeddedBroker, database_url: str
) -> None:
    with contextlib.ExitStack() as children:
        async with broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
            processes = [
                children.enter_context(child("embedded_publisher", database_url, first, 1000))
                for first in range(0, 4000, 1000)
            ]
            messages = await take(subscription, 4000)
        for process in processes:
            assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0
    assert sorted(int(message.value) for message in messages) == list(range(4000))
    assert_gapless(messages)


async def test_a_transaction_that_commits_late_is_not_overtaken(
    broker: EmbeddedBroker, database_url: str
) -> None:
    """Offsets are visible in order: who comes after an open transaction waits for it, in its partition and no other."""
    await broker.check()
    late, other = (broker._partitions[MACHINE_EVENTS][number] for number in (0, 1))
    keys = {partition_of(f"k{number}".encode(), 8): f"k{number}" for number in range(200)}
    async with broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
        with statements(database_url) as cursor:
            cursor.execute("BEGIN")
            embedded_log.append(cursor, [block(late.id, b"early")])
            behind = EmbeddedBroker(database_url)
            waiting = asyncio.create_task(
                behind.publish([Outgoing(MACHINE_EVENTS, keys[late.partition], b"late")])
            )
            await broker.publish([Outgoing(MACHINE_EVENTS, keys[other.partition], b"other")])
            first = await take(subscription, 1)
            async with asyncio.timeout(PATIENCE_S):
                while not _is_somebody_waiting(database_url):
                    await asyncio.sleep(0.01)
            assert not waiting.done()
            cursor.execute("COMMIT")
            await waiting
            second = await take(subscription, 2)
        await behind.close()
    assert [message.value for message in first] == [b"other"]
    assert [message.value for message in second] == [b"early", b"late"]
    assert_gapless(second)


def _is_somebody_waiting(url: str) -> bool:
    with statements(url) as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(cursor.fetchone()[0])


async def test_lag_counts_what_is_just_being_published(broker: EmbeddedBroker, database_url: str) -> None:
    """`measured_at` with nothing unread means that everything up to then was read: so an open transaction is awaited."""
    await broker.check()
    with statements(database_url) as cursor:
        cursor.execute("BEGIN")
        partition = broker._partitions[MACHINE_EVENTS][0]
        embedded_log.append(cursor, [block(partition.id, b"1")])
        measuring = asyncio.create_task(broker.lag(MACHINE_EVENTS, group="readers"))
        async with asyncio.timeout(PATIENCE_S):
            while not _is_somebody_waiting(database_url):
                await asyncio.sleep(0.01)
        cursor.execute("COMMIT")
    assert [lag.unread for lag in await measuring] == [1, 0, 0, 0, 0, 0, 0, 0]


async def _cut(url: str, published: Sequence[int], is_over: asyncio.Event) -> int:
    """Whenever something more is published: on a busy computer nothing would ever get through otherwise."""
    cuts, known = 0, -1
    with statements(url) as cursor:
        while not is_over.is_set():
            if len(published) > known:
                known = len(published)
                cursor.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE application_name = 'labkeeper broker' AND datname = current_database()"
                )
                cuts += cursor.fetchone()[0]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(is_over.wait(), 0.1)
    return cuts


async def test_connections_that_are_cut_lose_nothing(broker: EmbeddedBroker, database_url: str) -> None:
    """Publishers try again until they know; readers notice nothing but repetitions."""
    reader = EmbeddedBroker(database_url, lease=LEASE)
    is_over = asyncio.Event()
    published: list[int] = []

    async def publish(first: int) -> None:
        for at in range(first, first + 500, 20):
            while True:
                try:
                    await broker.publish(events(range(at, at + 20)))
                except BrokerUnavailable:
                    continue
                published.append(at)
                break

    seen: set[int] = set()

    async def read(subscription: Subscription) -> None:
        async for batch in subscription:
            seen.update(int(message.value) for message in batch.messages)
            with contextlib.suppress(BrokerUnavailable):
                await subscription.acknowledge(batch)
            if len(seen) == 2000:
                return

    await broker.check()
    async with asyncio.timeout(PATIENCE_S), reader.subscribe(MACHINE_EVENTS, group="readers") as subscription:
        reading = asyncio.create_task(read(subscription))
        cutting = asyncio.create_task(_cut(database_url, published, is_over))
        await asyncio.gather(*(publish(first) for first in range(0, 2000, 500)))
        is_over.set()
        cuts = await cutting
        await reading
    await reader.close()
    assert cuts > 3
    assert seen == set(range(2000))


async def test_a_restarted_server_is_found_again() -> None:
    folder = Path(tempfile.mkdtemp(prefix="lk-"))
    server = PostgresServer.start(folder, durable=False)
    broker = EmbeddedBroker(server.dsn, lease=LEASE)
    try:
        async with broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
            await broker.publish(events(range(10)))
            before = await take(subscription, 10)
            await asyncio.to_thread(server.stop)
            with pytest.raises(BrokerUnavailable):
                await broker.publish(events(range(10, 20)))
            with pytest.raises(BrokerUnavailable):
                await broker.check()
            server = await asyncio.to_thread(PostgresServer.start, folder, durable=False)
            await broker.publish(events(range(20, 30)))
            after = await take(subscription, 10)
        await broker.close()
    finally:
        server.stop()
        shutil.rmtree(folder)
    assert {int(message.value) for message in before} == set(range(10))
    assert {int(message.value) for message in after} == set(range(20, 30))


async def test_a_database_that_is_not_there_is_unavailable_and_its_password_stays_secret() -> None:
    broker = EmbeddedBroker("postgresql://labkeeper:opensesame@/nowhere?host=/nonexistent")
    with pytest.raises(BrokerUnavailable) as failure:
        await broker.check()
    with pytest.raises(BrokerUnavailable):
        async with broker.subscribe(MACHINE_EVENTS, group="readers"):
            pass
    assert "opensesame" not in str(failure.value)
    await broker.close()


async def test_processes_that_start_together_agree_on_the_tables(database_url: str) -> None:
    brokers = [EmbeddedBroker(database_url) for _ in range(6)]
    await asyncio.gather(*(broker.publish(events(range(10))) for broker in brokers))
    assert len(await brokers[0].fetch(MACHINE_EVENTS)) == 60
    for broker in brokers:
        await broker.close()


async def test_labs_with_different_prefixes_share_a_database_in_peace(database_url: str) -> None:
    ours, theirs = (EmbeddedBroker(database_url, Catalogue(prefix=prefix)) for prefix in ("a", "b"))
    await ours.publish(events(range(10)))
    assert len(await ours.fetch(MACHINE_EVENTS)) == 10
    assert not await theirs.fetch(MACHINE_EVENTS)
    assert sum(lag.unread for lag in await theirs.lag(MACHINE_EVENTS, group="readers")) == 0
    await ours.close()
    await theirs.close()


async def test_partitions_that_are_added_are_read_from_their_first_message(database_url: str) -> None:
    small, large = (
        EmbeddedBroker(database_url, Catalogue([Topic(MACHINE_EVENTS, count, timedelta(days=1))]))
        for count in (2, 8)
    )
    async with small.subscribe(MACHINE_EVENTS, group="readers", start=From.LATEST):
        await small.publish(events(range(100)))
    await large.publish(events(range(100, 200)))
    async with large.subscribe(MACHINE_EVENTS, group="readers", start=From.LATEST) as subscription:
        messages = await take(subscription, 200)
    assert {message.partition for message in messages} == set(range(8))
    assert sorted(int(message.value) for message in messages) == list(range(200))
    await small.close()
    await large.close()


async def test_a_reader_below_the_start_of_the_log_goes_on_with_what_is_left(database_url: str) -> None:
    clock = ManualClock(SystemClock().now())
    broker = EmbeddedBroker(database_url, clock=clock)
    async with broker.subscribe(MACHINE_EVENTS, group="readers", max_records=5) as subscription:
        for number in range(30):
            await broker.publish([Outgoing(MACHINE_EVENTS, "one", str(number).encode())])
        first = await take(subscription, 5)
        clock.advance(timedelta(days=3))
        assert await broker.trim() == 30
        await broker.publish([Outgoing(MACHINE_EVENTS, "one", b"30")])
        rest = await take(subscription, 1)
        while rest[-1].value != b"30":
            rest += await take(subscription, 1)
    await broker.close()
    numbers = [int(message.value) for message in [*first, *rest]]
    assert numbers == sorted(set(numbers))
    assert len(numbers) < 31


async def test_old_messages_go_by_themselves(database_url: str) -> None:
    clock = ManualClock(SystemClock().now())
    broker = EmbeddedBroker(database_url, clock=clock, trim_every=timedelta(milliseconds=20))
    await broker.publish(events(range(100)))
    clock.advance(timedelta(days=3))
    async with asyncio.timeout(PATIENCE_S):
        while await broker.fetch(MACHINE_EVENTS):
            await asyncio.sleep(0.01)
    await broker.close()


async def test_a_reader_that_does_not_ask_fetches_no_more_than_one_batch_ahead(
    broker: EmbeddedBroker,
) -> None:
    async with broker.subscribe(MACHINE_EVENTS, group="readers", max_records=50) as subscription:
        assert isinstance(subscription, EmbeddedSubscription)
        for first in range(0, 2000, 10):
            await broker.publish(events(range(first, first + 10)))
        batch = await anext(aiter(subscription))
        async with asyncio.timeout(PATIENCE_S):
            await subscription._reader._has_ahead.wait()
        await broker.publish(events(range(2000, 3000)))
        readings = subscription._membership.readings()
        ahead = sum(reading.position - reading.handed_out for reading in readings)
        assert len(batch.messages) <= 50
        assert ahead <= 50 + 10


async def test_a_reader_that_is_behind_never_waits_for_news(
    broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when small blocks follow large ones, so that one look brings less than a batch."""
    monkeypatch.setattr("pipeline.broker.embedded_subscription._LOOK_ANYWAY_S", 10 * PATIENCE_S)
    await broker.publish([Outgoing(MACHINE_EVENTS, "one", b"0")] * 500)
    for _ in range(300):
        await broker.publish([Outgoing(MACHINE_EVENTS, "one", b"1")])
    async with broker.subscribe(MACHINE_EVENTS, group="readers", max_records=100) as subscription:
        assert len(await take(subscription, 800)) == 800


async def test_a_user_without_rights_is_told_which_to_grant(
    broker: EmbeddedBroker, database_url: str
) -> None:
    with statements(database_url) as cursor:
        cursor.execute("CREATE ROLE nobody_much LOGIN")
        try:
            with_user = urlsplit(database_url)
            address = with_user.netloc.rpartition("@")[2]
            url = urlunsplit(with_user._replace(netloc=f"nobody_much@{address}"))
            powerless = EmbeddedBroker(url)
            with pytest.raises(Misconfigured, match="grant it CREATE on the database"):
                await powerless.check()
            await powerless.close()
        finally:
            cursor.execute("DROP ROLE nobody_much")


async def test_a_flood_of_publishers_waits_instead_of_filling_the_memory(
    broker: EmbeddedBroker, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_publisher, "_MOST_WAITING_BYTES", 100_000)
    await broker.check()
    with statements(database_url) as cursor:
        cursor.execute("BEGIN; LOCK TABLE labkeeper_broker.log_partitions IN EXCLUSIVE MODE")
        flood = [
            asyncio.create_task(broker.publish([Outgoing(MACHINE_EVENTS, f"k{n}", bytes(10_000))]))
            for n in range(100)
        ]
        async with asyncio.timeout(PATIENCE_S):
            while not _is_somebody_waiting(database_url):
                await asyncio.sleep(0.01)
        assert broker._publisher._waiting_bytes <= 100_000
        assert not any(task.done() for task in flood)
        cursor.execute("COMMIT")
    await asyncio.gather(*flood)
    assert len(await broker.fetch(MACHINE_EVENTS, limit=1000)) == 100
    assert broker._publisher._waiting_bytes == 0


async def test_a_publisher_that_cannot_get_its_lock_gives_up_in_time_and_spoils_nothing(
    broker: EmbeddedBroker, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.broker.embedded_session._LIMITS", "SET lock_timeout = '50ms'")
    await broker.check()
    with statements(database_url) as cursor:
        cursor.execute("BEGIN; LOCK TABLE labkeeper_broker.log_partitions IN EXCLUSIVE MODE")
        with pytest.raises(BrokerUnavailable, match="lock timeout"):
            await broker.publish(events(range(10)))
        cursor.execute("COMMIT")
    await broker.publish(events(range(10)))
    assert len(await broker.fetch(MACHINE_EVENTS)) == 10


async def test_large_reads_do_not_delay_the_heartbeat(broker: EmbeddedBroker) -> None:
    """A member that reads much keeps its leases: nobody else gets hold of a partition."""
    for _ in range(4):
        await broker.publish([Outgoing(MACHINE_EVENTS, f"k{n}", bytes([n]) * 1_000_000) for n in range(30)])
    async with broker.subscribe(MACHINE_EVENTS, group="readers", max_records=500) as subscription:
        messages = await take(subscription, 120)
    assert len(messages) == 120
