"""Conflicts, lost connections and lost answers: every update is applied exactly once, whatever happens to it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ClassVar

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812  # a class, whatever psycopg2 calls it

from pipeline.errors import Misconfigured, StoreUnavailable
from pipeline.store.migrations import migrate
from pipeline.store.sql import SqlStore
from pipeline.store.transaction import RetryPolicy
from schemas.changes import ChangeKind
from schemas.description import Description
from tests.contract.stores import toggled_power
from tests.integration.cockroach_proxy.faults import CommitsLost, Fault
from tests.integration.cockroach_proxy.proxy import CockroachProxy

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENT = RetryPolicy(
    first=timedelta(milliseconds=1), longest=timedelta(milliseconds=50), give_up_after=timedelta(seconds=60)
)


@pytest.fixture
def url(database_url: str) -> str:
    migrate(database_url)
    return database_url


@asynccontextmanager
async def opened(url: str, retries: Counter[str], **options: Any) -> AsyncIterator[SqlStore]:
    store = SqlStore(url, on_retry=lambda reason, _fault: retries.update([reason]), policy=PATIENT, **options)
    try:
        yield store
    finally:
        await store.close()


@contextlib.contextmanager
def administrator(url: str) -> Iterator[Any]:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def count(before: Description) -> Description:
    return before.model_copy(update={"battery": before.battery + 1})


def renamed(version: str, before: Description) -> Description:
    return before.model_copy(update={"version": version})


def counted_toggle(before: Description) -> Description:
    return count(toggled_power(before))


async def waiting_for_a_lock(cursor: Any) -> None:
    async with asyncio.timeout(60):
        while True:
            cursor.execute(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            if cursor.fetchall():
                return
            await asyncio.sleep(0.005)


# --- conflicts ---------------------------------------------------------------------------------------------------------


async def test_a_real_conflict_is_retried_on_the_new_state(url: str) -> None:
    retries: Counter[str] = Counter()
    async with opened(url, retries) as store, opened(url, Counter()) as warm:
        await warm.update("m1", count, now=NOW, create=True)
        await store.update_many({"m1": [count]}, now=NOW)
        with contextlib.closing(psycopg2.connect(url)) as rival, administrator(url) as cursor:
            with rival.cursor() as other:
                other.execute(
                    "UPDATE descriptions SET battery = 40, row_version = 10 WHERE machine_id = 'm1'"
                )
            update = asyncio.create_task(store.update_many({"m1": [count]}, now=NOW))
            await waiting_for_a_lock(cursor)
            rival.commit()
            (updated,) = await update

    assert retries == {"40001": 1}
    assert (updated.after.battery, updated.after.row_version) == (41, 11)


async def test_two_stores_that_create_the_same_machine_make_it_once(url: str) -> None:
    async with opened(url, Counter()) as one, opened(url, Counter()) as other:
        for number in range(20):
            machine_id = f"m{number}"
            await asyncio.gather(
                *[store.update(machine_id, count, now=NOW, create=True) for store in (one, other) * 3]
            )
            found = await one.get(machine_id)
            assert (found.battery, found.row_version) == (6, 6)
            created = [each for each in await one.history(machine_id) if each.kind is ChangeKind.CREATED]
            assert len(created) == 1


async def test_writers_of_different_machines_do_not_break_each_other_off(url: str) -> None:
    """Wherever their rows lie in pages and indexes; a serializable transaction would look at whole ones."""
    retries: Counter[str] = Counter()
    machines = [f"m-{number:03}" for number in range(200)]
    async with opened(url, Counter()) as store:
        await store.update_many({machine: [count] for machine in machines}, now=NOW)

    async def write(store: SqlStore, own: Sequence[str]) -> None:
        for number in range(40):
            change = partial(renamed, f"v{number}")
            await store.update_many({machine: [change] for machine in own}, now=NOW)

    async with opened(url, retries) as one, opened(url, retries) as other:
        await asyncio.gather(write(one, machines[::2]), write(other, machines[1::2]))
    assert not retries


async def test_a_machine_without_a_row_is_decided_upon_serializably(url: str) -> None:
    """There is nothing to lock that would keep others from making it, and deleting it, meanwhile."""
    serializable: list[bool] = []
    with administrator(url) as cursor:

        def look(before: Description) -> Description:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE mode = 'SIReadLock'")
            serializable.append(cursor.fetchone()[0] > 0)
            return count(before)

        async with opened(url, Counter()) as store, opened(url, Counter()) as other:
            for machines in (["new"], ["new"], ["new", "newer"]):
                await store.update_many({machine: [look] for machine in machines}, now=NOW)
            await other.update_many({"new": [look]}, now=NOW)
            await other.update("newest", look, now=NOW, create=True)
            await other.update("newest", look, now=NOW)
    assert serializable == [True, False, True, True, False, True, False]


async def test_batches_of_the_same_machines_do_not_wait_for_one_another_for_ever(url: str) -> None:
    retries: Counter[str] = Counter()
    ids = [f"m{number:03d}" for number in range(100)]
    async with opened(url, retries) as one, opened(url, retries) as other:
        for store in (one, other) * 10:
            await asyncio.gather(
                store.update_many({each: [count] for each in ids}, now=NOW),
                store.update_many({each: [count] for each in reversed(ids)}, now=NOW),
                other.update_many({each: [count] for each in random.sample(ids, 50)}, now=NOW),
            )
        total = sum(each.battery for each in (await one.list()).machines)

    assert total == 20 * (100 + 100 + 50)


class _Unlucky(Connection):  # type: ignore[misc]  # psycopg2 has no types
    """Three of ten commits fail, as CockroachDB and PostgreSQL make them fail; some of those took effect."""

    luck: ClassVar = random.Random(20260301)
    failures: ClassVar[Counter[str]] = Counter()

    def commit(self) -> None:
        if self.luck.random() >= 0.3:
            super().commit()
            return
        code = self.luck.choice(["40001", "40P01", "40003", "40003 after all", "08006", "57P01"])
        self.failures[code] += 1
        if code == "40003 after all":
            super().commit()
        with self.cursor() as cursor:
            cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'bad luck' USING ERRCODE = '{code[:5]}'; END $$")


async def test_failing_commits_lose_nothing_and_repeat_nothing(url: str) -> None:
    """3,000 updates by eight tasks, a third of the commits failing one way or another."""
    _Unlucky.failures.clear()
    ids = [f"m{number:02d}" for number in range(30)]
    connect = partial(psycopg2.connect, connection_factory=_Unlucky)
    retries: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    toggles: Counter[str] = Counter()

    async def single(store: SqlStore, lot: random.Random) -> None:
        for _ in range(100):
            machine_id = lot.choice(ids)
            await store.update(machine_id, counted_toggle, now=NOW, create=True)
            wanted[machine_id] += 1
            toggles[machine_id] += 1

    async def batches(store: SqlStore, lot: random.Random) -> None:
        for _ in range(55):
            chosen = lot.sample(ids, 10)
            await store.update_many({each: [count] for each in chosen}, now=NOW)
            wanted.update(chosen)

    async with (
        opened(url, retries, connect=connect) as one,
        opened(url, retries, connect=connect) as other,
    ):
        await asyncio.gather(
            *[single(store, random.Random(n)) for n, store in enumerate((one, other) * 2)],
            *[batches(store, random.Random(n)) for n, store in enumerate((one, other) * 2)],
        )
        machines = {each.dimension("id")[0]: each for each in (await one.list()).machines}
        lines = {
            each: [line for line in await one.history(each, limit=10_000) if line.kind is ChangeKind.POWER]
            for each in ids
        }
        messages = Counter(row.message.key for row in await one.take(limit=10_000))

    assert sum(wanted.values()) == 2600
    assert {each: machine.battery for each, machine in machines.items()} == wanted
    assert {each: machine.row_version for each, machine in machines.items()} == wanted
    assert {each: machine.power_cycle for each, machine in machines.items()} == {
        each: toggles[each] % 2 == 1 for each in ids
    }
    assert {each: len(found) for each, found in lines.items()} == toggles
    assert messages == toggles
    assert min(_Unlucky.failures.values()) > 10
    assert len(_Unlucky.failures) == 6


# --- lost connections --------------------------------------------------------------------------------------------------


def terminate_until(url: str, stop: threading.Event, done: list[str], killed: list[int]) -> None:
    """Whenever something more is done: on a busy computer nothing would ever get through otherwise."""
    seen = -1
    with administrator(url) as cursor:
        while not stop.wait(0.01):
            if len(done) == seen:
                continue
            seen = len(done)
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'labkeeper'"
            )
            killed.append(cursor.fetchone()[0])


async def test_killed_backends_lose_nothing_and_repeat_nothing(url: str) -> None:
    stop = threading.Event()
    done: list[str] = []
    killed: list[int] = []
    killer = threading.Thread(target=terminate_until, args=(url, stop, done, killed))
    retries: Counter[str] = Counter()
    ids = [f"m{number}" for number in range(4)]

    async def work(store: SqlStore, machine_id: str) -> None:
        for _ in range(20):
            await store.update(machine_id, toggled_power, now=NOW, create=True)
            done.append(machine_id)
            await store.update_many({each: [count] for each in ids}, now=NOW)
            done.append(machine_id)

    async with opened(url, retries) as store:
        killer.start()
        try:
            await asyncio.gather(*[work(store, machine_id) for machine_id in ids])
        finally:
            stop.set()
            killer.join()
        machines = (await store.list()).machines
        lines = [
            len([line for line in await store.history(each, limit=1000) if line.kind is ChangeKind.POWER])
            for each in ids
        ]

    assert [each.battery for each in machines] == [80] * 4
    assert [each.row_version for each in machines] == [100] * 4
    assert [each.power_cycle for each in machines] == [False] * 4
    assert lines == [20] * 4
    assert sum(killed) > 20
    assert retries.total() > 20


async def test_a_lost_answer_to_commit_is_not_a_second_toggle(url: str) -> None:
    """The connection is lost while COMMIT is under way, again and again: the toggle happens once."""
    retries: Counter[str] = Counter()
    with CockroachProxy.in_front_of(url) as proxy:
        async with opened(proxy.dsn, retries) as store:
            await store.update("m1", count, now=NOW, create=True)
            for number in range(1, 11):
                proxy.plan = CommitsLost(Fault.RESET_LATE if number % 2 else Fault.RESET_AFTER)
                updated = await store.update("m1", toggled_power, now=NOW)
                assert updated.after.power_cycle is (number % 2 == 1)
                assert updated.after.row_version == 1 + number
                assert updated.after == await store.get("m1")
            lines = [each for each in await store.history("m1") if each.kind is ChangeKind.POWER]
            messages = await store.take(limit=100)

    assert proxy.injected == {Fault.RESET_LATE: 5, Fault.RESET_AFTER: 5}
    assert retries.total() >= 10
    assert len(lines) == 10
    assert [row.version for row in messages] == list(range(1, 12))


async def test_a_lost_answer_is_no_second_heartbeat_and_no_second_deletion(url: str) -> None:
    """What leaves no line in the history is applied once as well, and a deletion knows that it was the one."""
    with CockroachProxy.in_front_of(url) as proxy:
        async with opened(proxy.dsn, Counter()) as store:
            proxy.plan = CommitsLost(Fault.RESET_LATE, 2)
            (created,) = await store.update_many({"m1": [count]}, now=NOW)
            proxy.plan = CommitsLost(Fault.RESET_BEFORE, 3)
            (updated,) = await store.update_many({"m1": [count]}, now=NOW)
            assert (created.after.battery, updated.after.battery) == (1, 2)
            assert await store.get("m1") == updated.after
            proxy.plan = CommitsLost(Fault.RESET_LATE)
            assert await store.delete("m1", now=NOW, who="jo")
            (row,) = await store.take(limit=10)

    assert row.version == 3
    assert proxy.injected[Fault.RESET_BEFORE] == 3
    assert proxy.injected[Fault.RESET_LATE] >= 2


# --- out of reach ------------------------------------------------------------------------------------------------------


async def test_a_database_out_of_reach_is_given_up_in_time(tmp_path: Any) -> None:
    policy = RetryPolicy(give_up_after=timedelta(milliseconds=300))
    store = SqlStore(f"host={tmp_path} dbname=nothing", policy=policy)
    began = time.monotonic()

    with pytest.raises(StoreUnavailable):
        await store.check()

    assert time.monotonic() - began < 25  # 30 s is the rule
    await store.close()


async def test_closing_ends_the_wait_for_a_database_out_of_reach(tmp_path: Any) -> None:
    first = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell(_reason: str, _fault: str) -> None:
        loop.call_soon_threadsafe(first.set)

    store = SqlStore(
        f"host={tmp_path} dbname=nothing",
        policy=RetryPolicy(give_up_after=timedelta(hours=1)),
        on_retry=tell,
    )
    update = asyncio.create_task(store.update("m1", count, now=NOW))
    async with asyncio.timeout(60):
        await first.wait()
        await store.close()

        with pytest.raises(StoreUnavailable):
            await update
        with pytest.raises(StoreUnavailable):
            await store.get("m1")


async def test_a_process_that_is_to_stop_does_not_insist_on_a_database_out_of_reach(tmp_path: Any) -> None:
    store = SqlStore(f"host={tmp_path} dbname=nothing", policy=RetryPolicy(give_up_after=timedelta(hours=1)))
    update = asyncio.create_task(store.update("m1", count, now=NOW))
    store.hurry()
    try:
        async with asyncio.timeout(60):
            with pytest.raises(StoreUnavailable):
                await update
            with pytest.raises(StoreUnavailable):
                await store.get("m1")  # such as to release a lease
    finally:
        await store.close()


async def test_a_database_without_our_tables_is_a_mistake_that_is_explained(database_url: str) -> None:
    async with opened(database_url, Counter()) as store:
        with pytest.raises(Misconfigured, match="labkeeper db migrate"):
            await store.get("m1")
        with pytest.raises(Misconfigured, match="labkeeper db migrate"):
            await store.update("m1", count, now=NOW, create=True)


def test_an_address_that_is_none_is_a_mistake_that_is_explained() -> None:
    with pytest.raises(Misconfigured, match="database address"):
        SqlStore("nonsense://x")
