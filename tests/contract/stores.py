"""The stores that the contract suite holds to their promises, and machines to fill them with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import psycopg2
import pytest

from pipeline.processor.pools import Pools
from pipeline.store.memory import MemoryStore
from pipeline.store.migrations import migrate
from pipeline.store.power_protocol import PowerStore, Silences
from pipeline.store.protocol import Change, Checkpoints, Leases, Outbox, ProgressLog, Store
from pipeline.store.schema import expected_schema
from pipeline.store.sql import SqlStore
from schemas.description import (
    Annotation,
    CacheRequest,
    CipdPackage,
    Description,
    TaskRequest,
)
from tests.servers import cockroachdb, postgres

NOW: Final = datetime(2026, 3, 1, 12, 30, 15, 123000, tzinfo=UTC)
POOLS: Final = Pools([("SkiaInternal", "^skia-i-"), ("Skia", "^skia-")])

MEMORY: Final = "memory"
POSTGRESQL: Final = "postgresql"
COCKROACHDB: Final = "cockroachdb"
STORES: Final = [
    MEMORY,
    pytest.param(POSTGRESQL, marks=pytest.mark.integration),
    pytest.param(COCKROACHDB, marks=pytest.mark.integration),
]
_DATABASE: Final = {POSTGRESQL: "database_url", COCKROACHDB: "cockroachdb_url"}
"""Fixture with the address of a database of its own."""


class WholeStore(Store, Outbox, ProgressLog, Leases, Checkpoints, PowerStore, Silences, Protocol):
    """All that a store does."""


@asynccontextmanager
async def open_store(
    request: pytest.FixtureRequest, shared: SharedDatabases | None = None
) -> AsyncIterator[WholeStore]:
    """The store that the test is parametrised with, empty; on a shared database, if there are some."""
    store: WholeStore
    if request.param == MEMORY:
        store = MemoryStore(pools=POOLS)
    elif shared is not None:
        store = SqlStore(shared.emptied(request.param), pools=POOLS)
    else:
        url = request.getfixturevalue(_DATABASE[request.param])
        migrate(url)
        store = SqlStore(url, pools=POOLS)
    try:
        yield store
    finally:
        await store.close()


class SharedDatabases:
    """Databases for all tests of a module: to empty one is quicker than to make one."""

    def __init__(self, request: pytest.FixtureRequest, stack: ExitStack) -> None:
        """`request` is a module's, which gets along with the servers; `stack` drops the databases."""
        self._request = request
        self._stack = stack
        self._urls: dict[str, str] = {}

    def emptied(self, kind: str) -> str:
        """Address of a database with our tables and nothing in them."""
        if kind not in self._urls:
            server = self._request.getfixturevalue(f"{kind}_server".replace("postgresql", "postgres"))
            new_database = postgres.new_database if kind == POSTGRESQL else cockroachdb.new_database
            self._urls[kind] = self._stack.enter_context(new_database(server))
            migrate(self._urls[kind])
        tables = sorted(expected_schema().keys() - {"schema_migrations"})
        with (
            closing(psycopg2.connect(self._urls[kind])) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            for table in tables:
                cursor.execute(f"DELETE FROM {table}")
        return self._urls[kind]


def setting(**fields: object) -> Change:
    """A change that sets attributes of a Description."""
    return lambda before: before.model_copy(update=fields)


def toggled_power(before: Description) -> Description:
    """Turn the wish for a power cycle on or off. Done twice by mistake, it shows."""
    return before.model_copy(update={"power_cycle": not before.power_cycle})


def unchanged(before: Description) -> Description:
    """A change that finds nothing to do."""
    return before


async def add(store: Store, machine_id: str, **fields: object) -> Description:
    """A new machine with the given attributes; dimensions come on top of its id."""
    dimensions = fields.pop("dimensions", {})
    assert isinstance(dimensions, dict)
    fields["dimensions"] = {"id": [machine_id], **dimensions}
    (updated,) = await store.update_many({machine_id: [setting(**fields)]}, now=NOW)
    return updated.after


def filled(machine_id: str) -> Description:
    """A Description in which no field has its zero value, and the texts are awkward."""
    awkward = "quotes \" ' and \\ braces {}, NULL, %s, ümläut ☃ 𝄞\t\n\x7f"
    by_person = Annotation(message=awkward, user="jo@example.com", timestamp=NOW + timedelta(microseconds=7))
    return Description(
        maintenance_mode="jo@example.com 2026-03-01T12:30:15Z " + awkward,
        is_quarantined=True,
        recovering=awkward,
        attached_device="adb",
        annotation=by_person,
        note=by_person,
        version=awkward,
        power_cycle=True,
        power_cycle_state="in_error",
        last_updated=NOW,
        battery=-99,
        temperature={awkward: 35.0, "tiny": 1.5e-300, "huge": -1.7e300},
        running_swarming_task=True,
        launched_swarming=True,
        recovery_start=NOW - timedelta(days=1),
        device_uptime_s=2**31 - 1,
        ssh_user_ip="root@skia-sparky360-03",
        supplied_dimensions={"gpu": [awkward, "b"]},
        dimensions={
            "id": [machine_id],
            "os": ["Android", awkward],
            awkward: [awkward],
            "pool": ["Skia"],
            "task_type": ["sktask"],
        },
        task_request=TaskRequest(
            caches=[CacheRequest(name="n", path=awkward)],
            cipd_packages=[CipdPackage(name="n", path="p", version=awkward)],
            command=["a", awkward],
            env={awkward: awkward},
            env_prefixes={"PATH": ["a", awkward], "EMPTY": None},
            execution_timeout_ns=2**63 - 1,
            name=awkward,
        ),
        task_started=NOW - timedelta(hours=1),
        device_kind="android",
        down_since=NOW - timedelta(minutes=3),
        monitor_start=NOW - timedelta(days=2, microseconds=1),
        monitor_sequence=2**63 - 1,
        power_action=awkward,
        power_status=awkward,
        healing=awkward,
    )
