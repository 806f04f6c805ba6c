"""Two transactions about one machine's commands, the second of which begins before the first has ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest

from pipeline.store.migrations import migrate
from pipeline.store.sql import SqlStore
from schemas.ids import new_ulid
from schemas.power import PowerAction, PowerCommand, PowerStatus, PowerStep

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DEADLINE_S = 120


def command() -> PowerCommand:
    return PowerCommand(
        id=new_ulid(),
        machine_id="skia-1",
        action=PowerAction.CYCLE,
        who="jo",
        requested_at=NOW,
        expires_at=NOW + timedelta(minutes=10),
    )


def step(of: PowerCommand, status: PowerStatus) -> PowerStep:
    return PowerStep(
        command_id=of.id, machine_id=of.machine_id, status=status, at=NOW, agent="rack4", command=of
    )


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SqlStore]:
    migrate(database_url)
    store = SqlStore(database_url)
    await store.update(
        "skia-1",
        lambda before: before.model_copy(update={"power_cycle_state": "available"}),
        now=NOW,
        create=True,
    )
    try:
        yield store
    finally:
        await store.close()


async def one_behind_the_other(database_url: str, store: SqlStore, *results: PowerStep) -> None:
    """Apply each result in a transaction of its own, all of which have begun before the first gets the machine's row."""
    with contextlib.closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM descriptions WHERE machine_id = 'skia-1' FOR UPDATE")
        applying = []
        for each in results:
            applying.append(asyncio.create_task(store.apply_power([each], now=NOW)))
            await until_waiting(database_url, len(applying))
        connection.rollback()
        await asyncio.gather(*applying)


async def until_waiting(database_url: str, number: int) -> None:
    """Return once so many transactions wait for a row."""

    def waiting(cursor: Any) -> int:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        ((count,),) = cursor.fetchall()
        return int(count)

    with contextlib.closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        async with asyncio.timeout(DEADLINE_S):
            while waiting(cursor) < number:
                await asyncio.sleep(0.01)


async def test_a_command_that_became_pending_unseen_is_seen_by_who_waited_for_the_machine(
    database_url: str, store: SqlStore
) -> None:
    """The first transaction leaves the Description as it is; the second must not decide by the commands as they were."""
    old = command()
    await store.order_power(old, now=NOW)
    await store.cancel_power("skia-1", now=NOW, who="jo")
    new = command()
    await store.order_power(new, now=NOW)
    await store.apply_power([step(new, PowerStatus.ACCEPTED)], now=NOW)

    await one_behind_the_other(
        database_url, store, step(old, PowerStatus.ACCEPTED), step(new, PowerStatus.DONE)
    )

    machine = await store.get("skia-1")
    assert (machine.power_status, machine.power_cycle) == ("accepted", True)


async def test_nobody_undoes_what_another_wrote_meanwhile(database_url: str, store: SqlStore) -> None:
    """All steps of a command at once: each finds the ones before."""
    wish = command()
    await store.order_power(wish, now=NOW)

    await one_behind_the_other(
        database_url,
        store,
        *(step(wish, status) for status in (PowerStatus.OFF, PowerStatus.ACCEPTED, PowerStatus.DONE)),
    )

    record = await store.power_command(wish.id)
    assert record is not None
    assert record.status is PowerStatus.DONE
    assert {each.status for each in record.steps} >= {PowerStatus.ACCEPTED, PowerStatus.OFF}
