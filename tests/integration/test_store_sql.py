"""What only the SQL store promises: how little it writes, and that what it remembers is never wrong."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest

from pipeline.errors import Rejected
from pipeline.processor.operators import toggle_mode
from pipeline.processor.pools import Pools
from pipeline.store.migrations import migrate
from pipeline.store.sql import SqlStore
from schemas.description import Description

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POOLS = Pools([("Skia", "^skia-")])
FLEET = [f"skia-{number:05d}" for number in range(2000)]


@pytest.fixture
def url(database_url: str) -> str:
    migrate(database_url)
    return database_url


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    opened = SqlStore(url, pools=POOLS)
    yield opened
    await opened.close()


@pytest.fixture
def cursor(url: str) -> Iterator[Any]:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as opened:
            yield opened


def one(cursor: Any, sql: str, parameters: object = None) -> Any:
    cursor.execute(sql, parameters)
    return cursor.fetchone()[0]


def first_event(before: Description) -> Description:
    dimensions = {
        "os": ["Android"],
        "device_os": ["Q", "QQ2A.200305.002", "QQ2A.200305.002_6254899"],
        "device_type": ["sargo" if before.dimension("id")[0] < "skia-00500" else "walleye"],
        "android_devices": ["1"],
    }
    return before.model_copy(update={"dimensions": {**(before.dimensions or {}), **dimensions}})


def heartbeat(number: int) -> Any:
    def change(before: Description) -> Description:
        return before.model_copy(
            update={
                "last_updated": NOW + timedelta(seconds=number),
                "battery": number % 100,
                "device_uptime_s": number * 30,
                "temperature": {"dumpsys_battery": 20 + number / 10, "cpu": 41.5},
                "running_swarming_task": number % 2 == 0,
                "launched_swarming": number % 3 == 0,
                "monitor_start": NOW,
                "monitor_sequence": number,
                "dimensions": dict(before.dimensions or {}),
            }
        )

    return change


async def create_fleet(store: SqlStore) -> None:
    for start in range(0, len(FLEET), 500):
        await store.update_many({each: [first_event] for each in FLEET[start : start + 500]}, now=NOW)


def toggled(before: Description) -> Description:
    return toggle_mode(before, user="jo", now=NOW)


def pending_in_inverted_index(cursor: Any) -> int:
    """Pages of entries that wait to be merged into the index: none, if nothing was added since the last call."""
    pages: int = one(cursor, "SELECT gin_clean_pending_list('descriptions_dimensions')")
    return pages


async def test_a_heartbeat_leaves_every_index_alone(store: SqlStore, url: str, cursor: Any) -> None:
    """All fields that a heartbeat can change are changed, for every machine, ten times over."""
    await create_fleet(store)
    await beat(
        store, rounds=range(3)
    )  # rows grow by their first temperatures, and some move to a roomier page, once
    await store.close()
    cursor.execute("VACUUM descriptions")
    pending_in_inverted_index(cursor)
    sizes = "SELECT sum(pg_relation_size(indexrelid)) FROM pg_index WHERE indrelid = 'descriptions'::regclass"
    size_before = one(cursor, sizes)
    updates_before, heap_only_before = await updates_counted(cursor, at_least=3 * len(FLEET))

    beating = SqlStore(url, pools=POOLS)
    await beat(beating, rounds=range(3, 13))
    await beating.close()  # its connections report their statistics when they end

    updates, heap_only = await updates_counted(cursor, at_least=updates_before + 10 * len(FLEET))
    assert updates - updates_before == 10 * len(FLEET)
    assert heap_only - heap_only_before == 10 * len(FLEET)
    assert pending_in_inverted_index(cursor) == 0
    assert one(cursor, sizes) == size_before


async def beat(store: SqlStore, *, rounds: range) -> None:
    shuffled = random.Random(1)
    for number in rounds:
        for start in range(0, len(FLEET), 500):
            batch = FLEET[start : start + 500]
            shuffled.shuffle(batch)
            await store.update_many({each: [heartbeat(number)] for each in batch}, now=NOW)


async def updates_counted(cursor: Any, *, at_least: int) -> tuple[int, int]:
    """Updates of machines so far, and those among them that touched no index."""
    async with asyncio.timeout(20):
        while True:
            cursor.execute(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'descriptions'"
            )
            updates, heap_only = cursor.fetchone()
            if updates >= at_least:
                return updates, heap_only
            await asyncio.sleep(0.01)


async def test_another_dimension_does_reach_the_inverted_index(store: SqlStore, cursor: Any) -> None:
    """The counter-proof: the measurement above would notice."""
    await store.update_many({"skia-1": [first_event]}, now=NOW)
    pending_in_inverted_index(cursor)

    await store.update_many({"skia-1": [heartbeat(1)]}, now=NOW)
    assert pending_in_inverted_index(cursor) == 0

    def other(before: Description) -> Description:
        return before.model_copy(update={"dimensions": {"gpu": ["Adreno"]}})

    await store.update_many({"skia-1": [other]}, now=NOW)
    assert pending_in_inverted_index(cursor) > 0


async def test_what_a_store_remembers_is_checked_against_the_row(store: SqlStore, url: str) -> None:
    """Another process changed, deleted and made machines anew meanwhile."""
    other = SqlStore(url, pools=POOLS)
    try:
        ids = ["skia-changed", "skia-deleted", "skia-reborn", "skia-same"]
        await store.update_many({each: [heartbeat(1)] for each in ids}, now=NOW)
        await other.update("skia-changed", toggled, now=NOW)
        await other.delete("skia-deleted", now=NOW, who="jo")
        await other.delete("skia-reborn", now=NOW, who="jo")
        for number in range(3):
            await other.update_many({"skia-reborn": [heartbeat(number)]}, now=NOW)

        updates = await store.update_many({each: [heartbeat(7)] for each in ids}, now=NOW)

        for updated in updates:
            assert updated.after == await other.get(updated.machine_id)
        changed, deleted, reborn, same = (each.after for each in updates)
        assert changed.in_maintenance
        assert changed.row_version == 3
        assert (deleted.row_version, reborn.row_version, same.row_version) == (3, 6, 2)
    finally:
        await other.close()


async def test_a_mixed_batch_is_right_whatever_another_store_wrote_meanwhile(
    store: SqlStore, url: str
) -> None:
    """Heartbeats, toggles, replays and new machines together; each of the known rows has changed elsewhere, or not."""
    ids = [f"skia-{name}{fresh}" for name in ("beat", "toggle", "same", "none") for fresh in ("", "-stale")]
    await store.update_many({each: [heartbeat(1)] for each in ids}, now=NOW)
    other = SqlStore(url, pools=POOLS)
    changes = {"beat": [heartbeat(7)], "toggle": [toggled], "same": [lambda before: before], "none": []}
    try:
        for stale in ([], [each for each in ids if each.endswith("stale")]):
            for machine_id in stale:
                await other.update(machine_id, toggled, now=NOW)
            before = {each: await other.get(each) for each in ids}
            lines = {each: len(await other.history(each)) for each in ids}

            updates = await store.update_many(
                {each: changes[each.removeprefix("skia-").removesuffix("-stale")] for each in ids}, now=NOW
            )

            for updated in updates:
                machine_id = updated.machine_id
                assert updated.after == await other.get(machine_id)
                written = "beat" in machine_id or "toggle" in machine_id
                assert updated.after.row_version == before[machine_id].row_version + written
                toggle = "toggle" in machine_id
                assert updated.after.in_maintenance == (before[machine_id].in_maintenance != toggle)
                assert len(await other.history(machine_id)) == lines[machine_id] + toggle
    finally:
        await other.close()


async def test_nothing_is_rejected_for_what_a_store_wrongly_remembers(store: SqlStore, url: str) -> None:
    """A change is judged by the row as it is, not as it was."""

    def picky(before: Description) -> Description:
        if before.battery < 50:
            raise Rejected("battery too low")
        return before.model_copy(update={"battery": before.battery + 1})

    other = SqlStore(url, pools=POOLS)
    try:
        await store.update_many({"skia-1": [heartbeat(1)], "skia-2": [heartbeat(51)]}, now=NOW)
        await other.update_many({"skia-1": [heartbeat(60)]}, now=NOW)

        updates = await store.update_many({"skia-2": [picky], "skia-1": [picky]}, now=NOW)

        assert [each.after.battery for each in updates] == [52, 61]
        assert [await other.get(each.machine_id) for each in updates] == [each.after for each in updates]
    finally:
        await other.close()


@pytest.mark.parametrize("remembered_rows", [0, 1, 3])
async def test_a_small_memory_changes_nothing_but_the_speed(url: str, remembered_rows: int) -> None:
    ids = [f"m{number}" for number in range(10)]
    store = SqlStore(url, remembered_rows=remembered_rows)
    for number in range(5):
        await store.update_many({each: [heartbeat(number)] for each in ids}, now=NOW)
        assert [each.monitor_sequence for each in (await store.list()).machines] == [number] * 10
    await store.close()


async def test_a_lost_connection_makes_the_store_forget(store: SqlStore, cursor: Any) -> None:
    """Behind the new connection there may be an older copy of the database, with other rows of the same version."""
    await store.update_many({"skia-1": [heartbeat(1)]}, now=NOW)
    await store.update_many({"skia-1": [heartbeat(2)]}, now=NOW)
    cursor.execute(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'labkeeper'"
    )
    cursor.execute("UPDATE descriptions SET recovering = 'Too hot.'")

    (updated,) = await store.update_many({"skia-1": [heartbeat(3)]}, now=NOW)

    assert updated.after.recovering == "Too hot."
