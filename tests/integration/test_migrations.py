from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from pipeline.errors import Misconfigured
from pipeline.store.migrations import Migration, Phase, migrate, our_migrations, status
from pipeline.store.schema import expected_schema, live_schema, schema_differences

pytestmark = pytest.mark.integration

FIRST = Migration(
    "0001_pre_first", is_post=False, sql="CREATE TABLE IF NOT EXISTS first (id TEXT PRIMARY KEY)"
)
SECOND = Migration(
    "0002_post_second", is_post=True, sql="CREATE TABLE IF NOT EXISTS second (id TEXT PRIMARY KEY)"
)
THIRD = Migration(
    "0003_pre_third", is_post=False, sql="CREATE TABLE IF NOT EXISTS third (id TEXT PRIMARY KEY)"
)


BOTH = pytest.mark.parametrize("server", ["database_url", "cockroachdb_url"])


@pytest.fixture
def url(server: str, request: pytest.FixtureRequest) -> str:
    """Address of an empty database."""
    found: str = request.getfixturevalue(server)
    return found


@contextlib.contextmanager
def administrator(url: str) -> Iterator[Any]:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


@BOTH
def test_an_empty_database_gets_the_expected_schema(url: str) -> None:
    """A change of the schema goes into `expected_schema.json` as well, for people to review."""
    applied = migrate(url)

    assert list(applied) == [each.name for each in our_migrations()]
    assert live_schema(url) == expected_schema()


@BOTH
def test_the_second_time_there_is_nothing_to_do(url: str) -> None:
    migrate(url)

    assert list(migrate(url)) == []
    assert all(each.applied_at is not None and not each.problem for each in status(url))


@BOTH
def test_status_asks_and_changes_nothing(url: str) -> None:
    pending = status(url)

    assert [each.name for each in pending] == [each.name for each in our_migrations()]
    assert all(each.applied_at is None for each in pending)
    assert live_schema(url) == {}


@BOTH
def test_every_statement_may_run_twice(url: str) -> None:
    """CockroachDB does not undo statements that change the schema; the next try repeats them."""
    migrate(url)

    with administrator(url) as cursor:
        for migration in our_migrations():
            for statement in migration.statements:
                cursor.execute(statement)


@pytest.fixture
def like_cockroachdb(database_url: str) -> str:
    """A PostgreSQL database that says it was CockroachDB."""
    with administrator(database_url) as cursor:
        cursor.execute(
            "CREATE FUNCTION version() RETURNS TEXT LANGUAGE sql AS $$ SELECT 'CockroachDB CCL v25.2.0' $$"
        )
        cursor.execute("SELECT quote_ident(current_database())")
        (name,) = cursor.fetchone()
        cursor.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
    return database_url


def test_on_cockroachdb_each_statement_stands_alone(like_cockroachdb: str) -> None:
    """A migration that breaks off has done what it had done, is not recorded, and is applied anew."""
    first, second = (
        "CREATE TABLE IF NOT EXISTS second (id TEXT)",
        "CREATE TABLE IF NOT EXISTS other (id TEXT)",
    )
    broken = Migration(SECOND.name, is_post=True, sql=f"{first}; -- and; then\nSELECT 1 / 0; {second}")

    with pytest.raises(Exception, match="division by zero"):
        migrate(like_cockroachdb, migrations=[FIRST, broken])

    assert {"first", "second"} <= live_schema(like_cockroachdb).keys()
    assert "other" not in live_schema(like_cockroachdb)
    assert [each.applied_at is None for each in status(like_cockroachdb, migrations=[FIRST, broken])] == [
        False,
        True,
    ]
    mended = Migration(SECOND.name, is_post=True, sql=f"{first};\n{second};\n")
    assert list(migrate(like_cockroachdb, migrations=[FIRST, mended])) == [SECOND.name]
    assert "other" in live_schema(like_cockroachdb)


@pytest.mark.parametrize("server", ["database_url", "like_cockroachdb", "cockroachdb_url"])
def test_processes_that_migrate_at_the_same_time_apply_everything_once(url: str) -> None:
    program = (
        "import sys; from pipeline.store.migrations import migrate\n"
        "sys.stdin.readline(); print(len(migrate(sys.argv[1])))"
    )
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", program, url],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(3)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=60) for process in processes]

    assert [errors for _, errors in answers] == [""] * 3
    assert sum(int(applied) for applied, _ in answers) == len(our_migrations())
    assert live_schema(url) == expected_schema()


def test_a_migration_that_fails_leaves_nothing_and_can_be_mended(database_url: str) -> None:
    broken = Migration(SECOND.name, is_post=True, sql=SECOND.sql + "; SELECT 1 / 0")

    with pytest.raises(Exception, match="division by zero"):
        migrate(database_url, migrations=[FIRST, broken])

    assert [each.applied_at is None for each in status(database_url, migrations=[FIRST, SECOND])] == [
        False,
        True,
    ]
    assert "second" not in live_schema(database_url)
    assert list(migrate(database_url, migrations=[FIRST, SECOND])) == [SECOND.name]


@BOTH
def test_a_migration_that_changed_after_it_was_applied_is_refused(url: str) -> None:
    migrate(url, migrations=[FIRST])
    changed = Migration(FIRST.name, is_post=False, sql=FIRST.sql + " ")

    with pytest.raises(Misconfigured, match="0001_pre_first is not the one that was applied"):
        migrate(url, migrations=[changed, SECOND])

    (told, _) = status(url, migrations=[changed, SECOND])
    assert "has changed since" in told.problem


@BOTH
def test_a_database_newer_than_the_program_is_refused(url: str) -> None:
    migrate(url, migrations=[FIRST, SECOND])

    with pytest.raises(Misconfigured, match="newer than this program: it has the migration 0002_post_second"):
        migrate(url, migrations=[FIRST])

    told = {each.name: each.problem for each in status(url, migrations=[FIRST])}
    assert told[FIRST.name] == ""
    assert "older than the database" in told[SECOND.name]


@BOTH
def test_the_pre_phase_leaves_post_migrations_for_later(url: str) -> None:
    assert list(migrate(url, phase=Phase.PRE, migrations=[FIRST, SECOND])) == [FIRST.name]
    assert list(migrate(url, phase=Phase.PRE, migrations=[FIRST, SECOND])) == []
    assert list(migrate(url, migrations=[FIRST, SECOND])) == [SECOND.name]


@BOTH
def test_the_pre_phase_does_not_jump_over_a_post_migration(url: str) -> None:
    migrate(url, migrations=[FIRST])
    with pytest.raises(Misconfigured, match="0003_pre_third needs 0002_post_second"):
        migrate(url, phase=Phase.PRE, migrations=[FIRST, SECOND, THIRD])

    assert [each.applied_at is None for each in status(url, migrations=[FIRST, SECOND, THIRD])] == [
        False,
        True,
        True,
    ]
    assert len(migrate(url, migrations=[FIRST, SECOND, THIRD])) == 2


@BOTH
def test_in_an_empty_database_the_pre_phase_goes_as_far_as_it_must(url: str) -> None:
    """Nobody runs whom an earlier version's `post` migration would have to wait for."""
    names = [FIRST.name, SECOND.name, THIRD.name]
    assert list(migrate(url, phase=Phase.PRE, migrations=[FIRST, SECOND, THIRD])) == names


@BOTH
def test_a_table_altered_by_hand_is_noticed(url: str) -> None:
    migrate(url)
    assert schema_differences(expected_schema(), live_schema(url)) == []

    with administrator(url) as cursor:
        cursor.execute("CREATE TABLE somebody_elses (x TEXT)")
        cursor.execute("ALTER TABLE leases ADD COLUMN colour TEXT")
        cursor.execute("ALTER TABLE outbox ALTER COLUMN topic DROP NOT NULL")
        cursor.execute("DROP INDEX descriptions_power_cycle")

    assert [each.split(":")[0] for each in schema_differences(expected_schema(), live_schema(url))] == [
        "descriptions, index descriptions_power_cycle",
        "leases, column colour",
        "outbox, column topic",
    ]
