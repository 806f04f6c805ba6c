"""Where CockroachDB differs from PostgreSQL, each difference with its name, and proof that our SQL steers clear of it.

The sources: https://www.cockroachlabs.com/docs/stable/postgresql-compatibility and the issues named below. The contract
suite runs against CockroachDB itself where there is one; this list holds without.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from pipeline.store import migrations, queries, schema, transaction
from pipeline.store.columns import HEARTBEAT
from pipeline.store.cursor import Cursor
from pipeline.store.listing import listing
from pipeline.store.migrations import our_migrations
from pipeline.store.protocol import Query, SortKey
from schemas.health import Health


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that works in PostgreSQL and not, or not the same way, in CockroachDB."""

    name: str
    pattern: str
    """Would show that we rely on it."""
    why: str


DIFFERENCES = [
    Difference(
        "no-arrays-of-jsonb", r"jsonb\s*\[\]", "https://github.com/cockroachdb/cockroach/issues/23468"
    ),
    Difference(
        "no-session-advisory-locks", r"advisory", "https://github.com/cockroachdb/cockroach/issues/13546"
    ),
    Difference(
        "no-listen-notify",
        r"\b(un)?listen\b|\bnotify\b",
        "https://github.com/cockroachdb/cockroach/issues/41522",
    ),
    Difference(
        "sequences-make-a-hot-range",
        r"\bserial\b|bigserial|create sequence|nextval|generated\b.*identity",
        "ever-growing keys all land in one range; ours are ids that are spread, or ULIDs behind one",
    ),
    Difference("no-plpgsql-blocks", r"\bdo \$|plpgsql|create (or replace )?function", "support is partial"),
    Difference("no-triggers-before-24.3", r"create trigger", "older versions refuse them"),
    Difference(
        "no-concurrent-index-builds-needed", r"concurrently", "ignored there; not in a transaction here"
    ),
    Difference("no-exclusion-constraints", r"exclude using", "not supported"),
    Difference("other-text-search", r"tsvector|pg_trgm|ilike|~\*", "performance and dictionaries differ"),
    Difference(
        "no-row-locks-that-skip", r"skip locked|nowait|for share|for key", "semantics differ by version"
    ),
    Difference("serial-numbers-of-rows", r"\bctid\b|\bxmin\b|\boid\b", "no such system columns"),
]

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
    found = [
        name
        for name, sql in STATEMENTS.items()
        if re.search(difference.pattern, re.sub(r"--.*", "", sql), re.IGNORECASE)
    ]

    assert found == [], difference.why


def test_schema_changes_survive_a_rollback() -> None:
    """CockroachDB commits before each one (`autocommit_before_ddl`), so all of ours may run twice."""
    for migration in our_migrations():
        sql = re.sub(r"--.*", "", migration.sql)
        for statement in filter(None, (each.strip() for each in sql.split(";"))):
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
