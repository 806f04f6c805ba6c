"""Which index each query uses, in a lab of 50,000 machines. The tables below are the documentation, checked by PostgreSQL.

CockroachDB plans by itself, but it has the same indexes, and a query that can use one here can use it there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any, Final

import psycopg2
import pytest

from pipeline.store import power_queries, queries, transaction
from pipeline.store.columns import heartbeat_arrays, search_text, whole_arrays
from pipeline.store.cursor import Cursor
from pipeline.store.listing import Listing, listing
from pipeline.store.literals import plain_array, text_array
from pipeline.store.migrations import migrate
from pipeline.store.protocol import PROGRESS_GAP, Query, SortKey
from schemas.description import Description
from schemas.health import Health
from tests.servers.kinds import TestServer
from tests.servers.postgres import new_database

pytestmark = pytest.mark.integration

NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
MACHINES: Final = 50_000
LINES_A_MACHINE: Final = 4
IDS: Final = [f"skia-{number:05d}" for number in range(1, MACHINES, MACHINES // 500)]
_COMMAND_IDS: Final = plain_array(["01KJ" + str(number).rjust(22, "0") for number in range(5)])
DESCRIPTIONS: Final = [Description.new(each, now=NOW) for each in IDS]

_FILL: Final = """
INSERT INTO descriptions SELECT name, 1, %(now)s - n * INTERVAL '1 ms', n %% 101, n, n %% 7 = 0, false, %(now)s, n, NULL,
    'v1', CASE WHEN n %% 50 = 0 THEN 'jo' ELSE '' END, n %% 90 = 0, CASE WHEN n %% 70 = 0 THEN 'Too hot.' ELSE '' END,
    '0001-01-01Z', CASE WHEN n %% 60 = 0 THEN %(now)s ELSE '0001-01-01Z' END, 'adb', 'android', '', n %% 5000 = 0,
    'available', '0001-01-01Z', '{}', '{}', NULL, NULL,
    jsonb_build_object('id', jsonb_build_array(name), 'device_type', jsonb_build_array('model' || n %% 200),
        'pool', jsonb_build_array('pool' || n %% 500), 'task_type', '["sktask"]'::JSONB, 'os', '["Android"]'::JSONB),
    name || ' android model' || n %% 200
    FROM (SELECT n, 'skia-' || lpad(n::TEXT, 5, '0') AS name FROM generate_series(1, %(machines)s) AS n) AS machines;
INSERT INTO machine_history SELECT 'skia-' || lpad((n %% %(machines)s + 1)::TEXT, 5, '0'), '01KJ' || lpad(n::TEXT, 22, '0'),
    %(now)s - (%(lines)s - n) * INTERVAL '30 s', 'mode', 'jo', '', '', '' FROM generate_series(1, %(lines)s) AS n;
INSERT INTO deleted_machines SELECT 'gone-' || lpad(n::TEXT, 5, '0'), n FROM generate_series(1, 20000) AS n;
INSERT INTO outbox SELECT 'skia-' || n, 1, '01KJ' || lpad(n::TEXT, 22, '0'), 'machine.changes', 'x', '{}', %(now)s
    FROM generate_series(1, 5000) AS n;
INSERT INTO power_commands SELECT 'skia-' || lpad((n %% 20000 + 1)::TEXT, 5, '0'), '01KJ' || lpad(n::TEXT, 22, '0'),
    CASE WHEN n > 79900 THEN 'queued' ELSE 'done' END, n > 79900, n <= 79900, %(now)s - (80000 - n) * INTERVAL '1 min',
    %(now)s, %(now)s, '', 'rack4', '', '{}', '[]' FROM generate_series(1, 80000) AS n;
INSERT INTO power_outlets SELECT 'skia-' || lpad(n::TEXT, 5, '0'), 'rack4', 'fake/x', '1', 'available', '', %(now)s
    FROM generate_series(1, 50000) AS n;
INSERT INTO silences SELECT '01KJ' || lpad(n::TEXT, 22, '0'), 'jo', 'cables', '*', '*', %(now)s, %(now)s
    FROM generate_series(1, 50) AS n;
INSERT INTO transaction_ledger SELECT '01KJ' || lpad(n::TEXT, 22, '0'), 'a', now() FROM generate_series(1, 50) AS n;
"""
"""Machines with four lines of history each, over ten weeks; what is busy and what has gone."""

_ALL: Final = "all of "
"""Before a table that is read from end to end."""

PLANS: Final[Mapping[str, tuple[str, ...]]] = {
    "READ_MACHINE": ("descriptions_pkey",),
    "LOCK_VERSIONS": ("descriptions_pkey",),
    "READ_MACHINES": ("descriptions_pkey",),
    "LAST_VERSIONS": ("deleted_machines_pkey",),
    "WRITE_HEARTBEATS": ("descriptions_pkey",),
    "WRITE_MACHINES": ("descriptions_pkey",),
    "DELETE_MACHINE": ("descriptions_pkey",),
    "REMEMBER_VERSION": ("deleted_machines_pkey",),
    "POWER_CYCLES": ("descriptions_power_cycle",),
    "FREE_MACHINES": ("descriptions_dimensions",),
    # An index on a time that each heartbeat changes would cost more than reading the table every few seconds.
    "SILENT_MACHINES": (_ALL + "descriptions",),
    "PING": (_ALL + "descriptions",),  # stops at the first row
    "WRITE_HISTORY": (),
    "READ_HISTORY": ("machine_history_pkey",),
    "NEXT_MACHINES": ("descriptions_pkey",),
    "NEXT_DELETED_MACHINES": ("deleted_machines_pkey",),
    "FORGET_HISTORY": ("machine_history_pkey",),
    "WRITE_OUTBOX": (),
    "TAKE_OUTBOX": ("outbox_pkey",),
    "REMOVE_OUTBOX": ("outbox_pkey",),
    # These tables hold one row a service: to read them all is the quickest.
    "RECORD_PROGRESS": ("progress_pkey",),
    "READ_PROGRESS": (_ALL + "progress",),
    "ACQUIRE_LEASE": ("leases_pkey",),
    "RELEASE_LEASE": (_ALL + "leases",),
    "READ_CHECKPOINT": (_ALL + "checkpoints",),
    "SAVE_CHECKPOINT": ("checkpoints_pkey",),
    "LOCK_COMMANDS": ("power_commands_id", "power_commands_pkey"),
    "WRITE_COMMANDS": ("power_commands_pkey",),
    "TOUCH_MACHINES": ("descriptions_pkey",),
    "READ_COMMAND": ("power_commands_id",),
    "READ_COMMANDS": ("power_commands_id",),
    "OVERDUE_COMMANDS": ("power_commands_pending",),
    "FORGET_COMMANDS": (_ALL + "power_commands",),  # small, and once in a while
    "LOCK_OUTLETS": ("power_outlets_pkey",),
    "READ_OUTLETS": ("power_outlets_pkey",),
    "READ_ALL_OUTLETS": ("power_outlets_pkey",),  # for its order
    "WRITE_OUTLETS": ("power_outlets_pkey",),
    # A few rows, always.
    "WRITE_SILENCE": ("silences_pkey",),
    "END_SILENCE": (_ALL + "silences",),
    "READ_SILENCES": (_ALL + "silences",),
    "READ_KEPT_SILENCES": (_ALL + "silences",),
    "FORGET_SILENCES": (_ALL + "silences",),
    "_READ_SIGNATURE": (_ALL + "transaction_ledger",),
    "_SIGN": ("transaction_ledger_pkey",),
    "_FORGET_SIGNATURES": (_ALL + "transaction_ledger",),
}
"""Every statement of the store and of its transactions, and what leads it to its rows."""

PARAMETERS: Final[Mapping[str, Sequence[object]]] = {
    "READ_MACHINE": (IDS[7],),
    "LOCK_VERSIONS": (plain_array(IDS),),
    "READ_MACHINES": (plain_array(IDS),),
    "LAST_VERSIONS": (plain_array(IDS),),
    "WRITE_HEARTBEATS": (plain_array(IDS), *heartbeat_arrays(DESCRIPTIONS)),
    "WRITE_MACHINES": (
        plain_array(IDS),
        text_array(map(search_text, IDS, DESCRIPTIONS)),
        *whole_arrays(DESCRIPTIONS),
    ),
    "DELETE_MACHINE": (IDS[7],),
    "REMEMBER_VERSION": (IDS[7], 5),
    "FREE_MACHINES": ('{"task_type": ["sktask"], "pool": ["pool7"]}',),
    "SILENT_MACHINES": (NOW - timedelta(seconds=49),),
    "WRITE_HISTORY": (NOW, "jo", "", *[plain_array(IDS)] * 5),
    "READ_HISTORY": (IDS[7], None, None, 100),
    "NEXT_MACHINES": (IDS[7], 500),
    "NEXT_DELETED_MACHINES": ("gone-00700", 500),
    "FORGET_HISTORY": (plain_array(IDS), "01KJ" + "20000".rjust(22, "0"), NOW, 1000),
    "WRITE_OUTBOX": ("m", 1, "i", "t", psycopg2.Binary(b""), "{}", NOW),
    "TAKE_OUTBOX": (100,),
    "REMOVE_OUTBOX": (text_array([IDS[1], IDS[2]]), text_array(["a", "b"])),
    "RECORD_PROGRESS": ("writer", NOW, NOW, "{0}", plain_array([NOW]), PROGRESS_GAP),
    "ACQUIRE_LEASE": ("relay", "me", PROGRESS_GAP),
    "RELEASE_LEASE": ("relay", "me"),
    "READ_CHECKPOINT": ("fleet",),
    "SAVE_CHECKPOINT": ("fleet", 1, "me", b"x"),
    "LOCK_COMMANDS": (_COMMAND_IDS, plain_array(IDS[:5]), "", plain_array(IDS[:5])),
    "WRITE_COMMANDS": (
        *[plain_array(IDS)] * 3,
        *["{true}"] * 2,
        *[plain_array([NOW])] * 3,
        *[plain_array(IDS)] * 3,
    )
    + ('{"{}"}',) * 2,
    "TOUCH_MACHINES": (plain_array(IDS),),
    "READ_COMMAND": (IDS[7],),
    "READ_COMMANDS": (*[None] * 8, 100),
    "OVERDUE_COMMANDS": (NOW, NOW, 200),
    "FORGET_COMMANDS": (NOW - timedelta(days=50), 1000),
    "LOCK_OUTLETS": (plain_array(IDS),),
    "READ_OUTLETS": (plain_array(IDS),),
    "WRITE_OUTLETS": (*[plain_array(IDS)] * 6, plain_array([NOW])),
    "WRITE_SILENCE": ("01KJ", "jo", "cables", "*", "*", NOW, NOW),
    "END_SILENCE": (NOW, "01KJ", NOW),
    "READ_SILENCES": (NOW,),
    "READ_KEPT_SILENCES": (PROGRESS_GAP,),
    "FORGET_SILENCES": (PROGRESS_GAP,),
    "_READ_SIGNATURE": ("01KJ",),
    "_SIGN": ("01KJ", "a"),
}

LISTINGS: Final[Mapping[str, tuple[Listing, str]]] = {
    "first page": (listing(Query(), limit=50, cursor=None), "descriptions_pkey"),
    "later page": (listing(Query(), limit=50, cursor=Cursor(IDS[9], IDS[9])), "descriptions_pkey"),
    "backwards": (listing(Query(descending=True), limit=50, cursor=None), "descriptions_pkey"),
    # All of a pool or model. For a page of them the planner may as well go along the primary key until it is full.
    "one dimension": (
        listing(Query(dimensions={"device_type": "model7"}), limit=None, cursor=None),
        "descriptions_dimensions",
    ),
    "two dimensions": (
        listing(Query(dimensions={"device_type": "model7", "os": "Android"}), limit=None, cursor=None),
        "descriptions_dimensions",
    ),
    "the machine of this name": (
        listing(Query(dimensions={"id": IDS[9]}, sort=SortKey.BATTERY), limit=50, cursor=None),
        "descriptions_dimensions",
    ),
    # People ask for these, and all columns are needed anyway: no index pays for its upkeep.
    "by battery": (listing(Query(sort=SortKey.BATTERY), limit=50, cursor=None), _ALL + "descriptions"),
    "a rare word": (listing(Query(text="nowhere"), limit=50, cursor=None), "descriptions_pkey"),
    "in recovery": (
        listing(Query(health=[Health.RECOVERING]), limit=None, cursor=None),
        _ALL + "descriptions",
    ),
    "everything": (listing(Query(), limit=None, cursor=None), "descriptions_pkey"),  # for its order
}


@pytest.fixture(scope="module")
def cursor(postgres_server: TestServer) -> Iterator[Any]:
    """Of a database that has grown for a while."""
    with new_database(postgres_server) as url:
        migrate(url)
        with contextlib.closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            with connection.cursor() as opened:
                numbers = {"now": NOW, "machines": MACHINES, "lines": MACHINES * LINES_A_MACHINE}
                opened.execute(_FILL, numbers)
                opened.execute("VACUUM ANALYZE")  # as the server does by itself from time to time
                yield opened


_MODULES: Final = (queries, power_queries, transaction)


def test_every_statement_is_in_the_table() -> None:
    def names(module: ModuleType) -> set[str]:
        verbs = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ")
        return {
            name for name, value in vars(module).items() if isinstance(value, str) and value.startswith(verbs)
        }

    assert names(queries) | names(power_queries) | names(transaction) - {"_PREPARE_SESSION"} == PLANS.keys()


@pytest.mark.parametrize("name", PLANS)
def test_a_statement_uses_its_index(name: str, cursor: Any) -> None:
    sql = next(getattr(module, name) for module in _MODULES if hasattr(module, name))

    assert way(cursor, sql, PARAMETERS.get(name)) == set(PLANS[name])


@pytest.mark.parametrize("name", LISTINGS)
def test_a_listing_uses_its_index(name: str, cursor: Any) -> None:
    wanted, index = LISTINGS[name]

    assert way(cursor, wanted.sql, wanted.parameters) == {index}


def way(cursor: Any, sql: str, parameters: Sequence[object] | None) -> set[str]:
    """The indexes that a statement uses, and the tables that it reads as a whole."""
    cursor.execute("EXPLAIN (FORMAT JSON) " + sql, parameters)
    ((answer,),) = cursor.fetchall()
    return set(_ways(answer[0]["Plan"]))


def _ways(plan: Mapping[str, Any]) -> Iterator[str]:
    if plan["Node Type"] == "Seq Scan":
        yield _ALL + plan["Relation Name"]
    if "Index Name" in plan:
        yield plan["Index Name"]
    yield from plan.get("Conflict Arbiter Indexes", ())
    for part in plan.get("Plans", ()):
        yield from _ways(part)
