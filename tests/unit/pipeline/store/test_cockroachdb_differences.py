"""Our SQL steers clear of what CockroachDB does differently: `tests/cockroachdb/differences.py` has the list.

Here statements are looked at as they stand in the source, which needs neither database nor parser.
"""

from __future__ import annotations

import re

import pytest

from pipeline.store import migrations, queries, schema, transaction
from pipeline.store.columns import HEARTBEAT
from pipeline.store.cursor import Cursor
from pipeline.store.listing import listing
from pipeline.store.migrations import our_migrations
from pipeline.store.protocol import Query, SortKey
from schemas.health import Health
from tests.cockroachdb.differences import DIFFERENCES, Difference

STATEMENTS = {
    **{
        f"{module.__name__}.{name}": value
        for module in (queries, transaction, migrations, schema)
        for name, value in vars(module).items()
        if isinstance(value, str) and re.match(r"(SELECT|INSERT|UPDATE|DELETE|CREATE)\b", value)
    },
    **{each.name: each.sql for each in our_migrations()},
    **{
        f"listing by {sort}": listing(
            Query({"os": "Android"}, list(Health), "adb", "some words", sort, descending=True),
            limit=3,
            cursor=Cursor("key", "m"),
        ).sql
        for sort in SortKey
    },
}


def test_there_are_statements_to_look_at() -> None:
    assert len(STATEMENTS) > 30


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda each: each.name)
def test_no_statement_relies_on(difference: Difference) -> None:
    found = [name for name, sql in STATEMENTS.items() if difference.found_in(sql)]

    assert found == [], f"{difference.why}: {difference.link}"


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda each: each.name)
def test_a_statement_that_did_would_be_caught(difference: Difference) -> None:
    assert difference.found_in(difference.sample)


def test_every_difference_has_a_name_of_its_own() -> None:
    assert len({each.name for each in DIFFERENCES}) == len(DIFFERENCES)


def test_schema_changes_survive_a_rollback() -> None:
    """CockroachDB commits before each one (`autocommit_before_ddl`), so all of ours may run twice."""
    for migration in our_migrations():
        for statement in migration.statements:
            assert re.match(
                r"CREATE (TABLE|(UNIQUE )?INDEX) IF NOT EXISTS |DROP (TABLE|INDEX) IF EXISTS |"
                r"ALTER TABLE \w+ (ADD|DROP) COLUMN IF (NOT )?EXISTS ",
                statement,
            ), f"{migration.name}: may this run twice? {statement}"


def test_the_fill_factor_is_ignored() -> None:
    """It is taken without effect there, so nothing but speed may depend on it; other storage parameters are refused."""
    for migration in our_migrations():
        assert set(re.findall(r"WITH \((\w+)", migration.sql)) <= {"fillfactor"}


def test_integers_are_spelled_in_full() -> None:
    """`INT` has 8 bytes there and 4 bytes here; `BIGINT` has 8 in both."""
    for migration in our_migrations():
        assert re.findall(r"\b(INT|INTEGER|SMALLINT|INT4)\b", migration.sql) == []


def test_no_index_mentions_what_a_heartbeat_changes() -> None:
    """Then PostgreSQL writes it heap-only, and CockroachDB leaves the secondary indexes alone."""
    hot = {column.name for column in HEARTBEAT}
    for migration in our_migrations():
        for definition in re.findall(
            r"CREATE (?:UNIQUE )?INDEX IF NOT EXISTS \w+ ON descriptions ([^;]*);", migration.sql
        ):
            assert not hot & set(re.findall(r"\w+", definition))
