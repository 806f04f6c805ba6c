"""Brings a database's tables to what this version needs: `infra/migrations/NNNN_pre_*.sql` and `_post_*.sql`, in order.

`pre` migrations are applied before the processes of a new version start, and suit the previous version as well; `post`
ones when the last process of the previous version has gone. Each file is one transaction and is recorded with its
checksum. Whoever comes second, at the same time or later, finds it recorded and does nothing.

CockroachDB changes a schema safely only by one statement at a time, each for itself. There, one connection holds the lock
and records, and a second one carries the statements out. A migration that breaks off half-way is not recorded and is
applied from its beginning the next time, which is why every statement may run twice.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from importlib import resources
from typing import Final, LiteralString

from pipeline.errors import Misconfigured
from pipeline.store.transaction import Database, OnRetry, RetryPolicy, Session, ignore

_FILE: Final = re.compile(r"(?P<number>\d{4})_(?P<phase>pre|post)_[a-z0-9_]+\.sql")

_CREATE_RECORD: Final = (
    "CREATE TABLE IF NOT EXISTS schema_migrations"
    " (name TEXT NOT NULL PRIMARY KEY, checksum TEXT NOT NULL, applied_at TIMESTAMPTZ NOT NULL)"
)
_CREATE_LOCK: Final = (
    "INSERT INTO schema_migrations (name, checksum, applied_at) VALUES ('lock', '', now())"
    " ON CONFLICT (name) DO NOTHING"
)
"""A row that is locked while a migration is applied (CockroachDB has no advisory locks)."""
_LOCK: Final = "UPDATE schema_migrations SET applied_at = now() WHERE name = 'lock'"
"""Whoever waited for it meanwhile must begin anew, and then sees what was applied."""
_READ_RECORD: Final = "SELECT name, checksum, applied_at FROM schema_migrations WHERE name <> 'lock'"
_RECORD: Final = "INSERT INTO schema_migrations (name, checksum, applied_at) VALUES (%s, %s, now())"
_VERSION: Final = "SELECT version()"
_HAS_RECORD: Final = (
    "SELECT 1 FROM information_schema.tables WHERE table_schema = current_schema()"
    " AND table_name = 'schema_migrations'"
)


_LONGEST_STATEMENT: Final = timedelta(hours=2)
"""Building an index takes its time."""
_PATIENT: Final = RetryPolicy(statement_timeout=_LONGEST_STATEMENT)
_BRIEF: Final = RetryPolicy(give_up_after=timedelta(seconds=5))
"""For whoever only looks, and can look again."""


class Phase(StrEnum):
    """Which migrations to apply."""

    PRE = "pre"
    """Those that come before the new processes start."""
    ALL = "all"
    """`post` ones too: no process of the previous version may be running."""


@dataclass(frozen=True, slots=True)
class Migration:
    """A file of SQL."""

    name: str
    """File name without `.sql`; sorts by number."""
    is_post: bool
    sql: LiteralString

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def statements(self) -> Sequence[LiteralString]:
        """One by one, without comments. No text in quotes holds a semicolon or two hyphens."""
        code = "\n".join([line.partition("--")[0] for line in self.sql.splitlines()])
        return [statement for part in code.split(";") if (statement := part.strip())]


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """A migration, as this version and the database see it."""

    name: str
    applied_at: datetime | None
    """None: pending."""
    problem: str = ""
    """Why nothing must be applied now; empty when all is well."""


@dataclass(frozen=True, slots=True)
class _Applied:
    checksum: str
    at: datetime


def migrate(
    dsn: str,
    *,
    phase: Phase = Phase.ALL,
    migrations: Sequence[Migration] | None = None,
    on_retry: OnRetry = ignore,
) -> Sequence[str]:
    """Apply what is pending, in order; return the names. Ours are taken unless `migrations` are given.

    Safe to run twice, and from several processes at once. Raises `Misconfigured` when an applied migration's text has
    changed since, when the database has migrations this version does not know, or when in phase `pre` a `post` one is
    still to come first; `StoreUnavailable` when the database stays out of reach.
    """
    known = our_migrations() if migrations is None else migrations
    with _database(dsn, _PATIENT, on_retry) as database:
        database.query(lambda session: session.execute(_CREATE_RECORD))
        database.query(lambda session: session.execute(_CREATE_LOCK))
        pending = _pending(known, database.query(_applied), phase)
        if database.query(_is_cockroachdb):
            with _database(dsn, _PATIENT, on_retry) as other:
                return [each.name for each in pending if database.transact(_Apply(each, _one_by_one(other)))]
        return [each.name for each in pending if database.transact(_Apply(each, _at_once))]


def status(dsn: str, *, migrations: Sequence[Migration] | None = None) -> Sequence[MigrationStatus]:
    """All migrations that this version or the database knows, by number. Changes nothing; raises `StoreUnavailable` soon."""
    known = our_migrations() if migrations is None else migrations
    with _database(dsn, _BRIEF) as database:
        applied = database.query(_applied) if database.query(_has_record) else {}
    by_name = {each.name: each for each in known}
    return [_status(name, by_name.get(name), applied.get(name)) for name in sorted({*by_name, *applied})]


def our_migrations() -> Sequence[Migration]:
    """The migrations of this version, in order."""
    found = []
    for file in resources.files("infra.migrations").iterdir():
        match = _FILE.fullmatch(file.name)
        if match is not None:
            sql = file.read_text(encoding="utf-8").replace("\r\n", "\n")
            found.append(Migration(file.name.removesuffix(".sql"), match["phase"] == "post", sql))
    return sorted(found, key=lambda each: each.name)


_Carry = Callable[[Session, Migration], None]
"""Carries a migration out, for the session that holds the lock."""


def _at_once(session: Session, migration: Migration) -> None:
    session.execute(migration.sql)


def _one_by_one(other: Database) -> _Carry:
    def carry(_: Session, migration: Migration) -> None:
        for statement in migration.statements:
            other.query(lambda session: session.execute(statement))  # noqa: B023  # called at once

    return carry


class _Apply:
    """One migration as a transaction. Returns whether there was anything to do."""

    def __init__(self, migration: Migration, carry: _Carry) -> None:
        self._migration = migration
        self._carry = carry

    def __call__(self, session: Session) -> bool:
        session.execute(_LOCK)
        recorded = _applied(session).get(self._migration.name)
        if recorded is not None:  # another process was faster
            _check(self._migration, recorded)
            return False
        self._carry(session, self._migration)
        session.execute(_RECORD, (self._migration.name, self._migration.checksum))
        return True


def _pending(
    known: Sequence[Migration], applied: Mapping[str, _Applied], phase: Phase
) -> Sequence[Migration]:
    newer = sorted(applied.keys() - {each.name for each in known})
    if newer:
        raise Misconfigured(
            f"the database is newer than this program: it has the migration {newer[-1]}. Install the version that "
            "brought it, or a later one."
        )
    for each in known:
        if each.name in applied:
            _check(each, applied[each.name])
    pending = [each for each in known if each.name not in applied]
    if phase is Phase.ALL:
        return pending
    return _before_post(pending) if applied else _up_to_pre(pending)


def _up_to_pre(pending: Sequence[Migration]) -> Sequence[Migration]:
    """In an empty database nothing has to wait for an earlier version's end, but for what may follow this version's start."""
    last = max((place for place, each in enumerate(pending) if not each.is_post), default=-1)
    return pending[: last + 1]


def _before_post(pending: Sequence[Migration]) -> Sequence[Migration]:
    post = next((each for each in pending if each.is_post), None)
    wanted = [each for each in pending if not each.is_post]
    if post is not None and wanted and wanted[-1].name > post.name:
        raise Misconfigured(
            f"{wanted[-1].name} needs {post.name}, which an earlier version left to be applied after its start: stop "
            "all processes of Labkeeper and run `labkeeper db migrate` for all phases."
        )
    return wanted


def _check(migration: Migration, recorded: _Applied) -> None:
    if problem := _problem(migration, recorded):
        raise Misconfigured(problem)


def _problem(migration: Migration | None, recorded: _Applied) -> str:
    if migration is None:
        return "this program does not know it: it is older than the database"
    if migration.checksum != recorded.checksum:
        return (
            f"the migration {migration.name} is not the one that was applied at {recorded.at:%Y-%m-%d %H:%M} UTC: "
            "its text has changed since. Restore the file; changes go into a new migration."
        )
    return ""


def _status(name: str, migration: Migration | None, recorded: _Applied | None) -> MigrationStatus:
    if recorded is None:
        return MigrationStatus(name, None)
    return MigrationStatus(name, recorded.at, _problem(migration, recorded))


def _applied(session: Session) -> dict[str, _Applied]:
    return {name: _Applied(checksum, at) for name, checksum, at in session.fetch(_READ_RECORD)}


def _has_record(session: Session) -> bool:
    return bool(session.fetch(_HAS_RECORD))


def _is_cockroachdb(session: Session) -> bool:
    (row,) = session.fetch(_VERSION)
    return str(row[0]).startswith("CockroachDB")


@contextmanager
def _database(dsn: str, policy: RetryPolicy, on_retry: OnRetry = ignore) -> Iterator[Database]:
    database = Database(dsn, threads=1, signs=False, policy=policy, on_retry=on_retry)
    try:
        yield database
    finally:
        database.close_now()
