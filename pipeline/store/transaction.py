"""Runs transactions on a few connections in worker threads, and retries them: the only place that does.

PostgreSQL and CockroachDB ask clients of serializable transactions to try again after a conflict. The same loop rides out
lost connections and servers that start, drain or fail over. The unpleasant case is a connection lost while COMMIT was
under way, after which nobody knows what happened. So each transaction that writes also signs the ledger, in the row of
its worker thread, and after such a loss the next attempt first looks whose signature stands there. Should the lost COMMIT
still be waiting in the server, it meets the next attempt in that row, and one of them has to begin anew.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Final, LiteralString, TypeVar

import orjson
import psycopg2
import psycopg2.extras
from psycopg2.extensions import (
    ISOLATION_LEVEL_REPEATABLE_READ,
    ISOLATION_LEVEL_SERIALIZABLE,
    STATUS_READY,
    parse_dsn,
)

from pipeline.errors import Misconfigured, Rejected, StoreUnavailable
from pipeline.retry import Backoff
from pipeline.store.faults import explained, leaves_doubt, reason_to_retry, spoils_connection, translated
from pipeline.store.silence import SilenceWatch, Watch
from schemas.ids import new_ulid

T = TypeVar("T")

_CONNECTION_DEFAULTS: Final = {
    "application_name": "labkeeper",
    "client_encoding": "UTF8",
    "connect_timeout": "5",
    # A server that vanished without a word is noticed within half a minute.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}

_PREPARE_SESSION: Final = (
    "SELECT set_config('TimeZone', 'UTC', false),"
    " set_config('statement_timeout', %(milliseconds)s, false),"
    " set_config('idle_in_transaction_session_timeout', %(milliseconds)s, false)"
)

_READ_SIGNATURE: Final = "SELECT attempt FROM transaction_ledger WHERE worker = %s"
_SIGN: Final = (
    "INSERT INTO transaction_ledger (worker, attempt, signed_at) VALUES (%s, %s, now())"
    " ON CONFLICT (worker) DO UPDATE SET attempt = excluded.attempt, signed_at = excluded.signed_at"
)
_FORGET_SIGNATURES: Final = "DELETE FROM transaction_ledger WHERE signed_at < now() - INTERVAL '1 day'"
"""Of worker threads that ended long ago; one that still lives misses nothing by it."""


class Isolation(Enum):
    """Who makes sure that transactions come to what they would come to one after the other."""

    SERIALIZABLE = ISOLATION_LEVEL_SERIALIZABLE
    """The database, whatever the transaction reads. PostgreSQL then takes a look at a row for a look at its whole index
    page, and breaks off transactions that have nothing to do with one another."""
    LOCKED = ISOLATION_LEVEL_REPEATABLE_READ
    """The transaction: each row that it decides upon, it locks or writes. Then a snapshot is enough on PostgreSQL;
    CockroachDB is serializable all the same. Decision 015."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to insist. The delay before the n-th retry is anywhere between 0 and `first` doubled n times."""

    first: timedelta = timedelta(milliseconds=10)
    longest: timedelta = timedelta(seconds=2)
    """No delay is longer."""
    give_up_after: timedelta = timedelta(seconds=30)
    """Counted from the first attempt. Covers the fail-over of a database node; a caller that can wait tries again."""
    statement_timeout: timedelta = timedelta(seconds=30)
    """Longer statements are broken off by the server, and tried again."""
    silence: timedelta = timedelta(seconds=5)
    """How much longer than that we wait for an answer before we take the connection for lost, and try again."""


HURRIED: Final = timedelta(seconds=2)
"""Enough for a conflict or a connection that broke; a process that is to stop waits for no database that is away."""


class Session:
    """What a transaction's callback may do with the database."""

    def __init__(self, cursor: Any, watch: Watch, isolation: Isolation = Isolation.SERIALIZABLE) -> None:
        self.isolation = isolation
        self._cursor = cursor
        self._watch = watch
        self.has_written = False

    def fetch(self, sql: LiteralString, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows. Raises `Rejected` for text that no database takes."""
        self._run(sql, parameters)
        rows: list[tuple[Any, ...]] = self._cursor.fetchall()
        return rows

    def execute(self, sql: LiteralString, parameters: Sequence[object] | None = None) -> int:
        """Run a statement that writes, and return how many rows it touched. Raises like `fetch`.

        A transaction in which this was called is signed.
        """
        self.has_written = True
        self._run(sql, parameters)
        touched: int = self._cursor.rowcount
        return touched

    def _run(self, sql: LiteralString, parameters: Sequence[object] | None) -> None:
        try:
            with self._watch:
                self._cursor.execute(sql, parameters)
        except ValueError as error:  # psycopg2 on NUL characters and lone surrogates
            raise Rejected(f"the database does not take it: {error}") from error


Work = Callable[[Session], T]
"""Called afresh for each attempt; does nothing but ask the session."""


def forget_signatures(session: Session) -> None:
    """Drop the signatures of processes that are long gone."""
    session.execute(_FORGET_SIGNATURES)


OnRetry = Callable[[str, str], None]
"""Called on a worker thread before each retry, with the SQLSTATE or `connection`, and the fault in one line."""


def ignore(_reason: str, _fault: str) -> None:
    """The `OnRetry` of those who do not want to know."""


class Database:
    """A few connections, one for each worker thread, made when first needed and again after a loss."""

    def __init__(
        self,
        dsn: str,
        *,
        threads: int = 4,
        signs: bool = True,
        policy: RetryPolicy = RetryPolicy(),
        on_retry: OnRetry = ignore,
        on_connect: Callable[[], None] = lambda: None,
        connect: Callable[..., Any] = psycopg2.connect,
    ) -> None:
        """Both hooks are called on worker threads.

        Without `signs`, for a database that has no ledger yet, a transaction may be applied twice.
        """
        self._signs = signs
        self._options = _connection_options(dsn)
        self._policy = policy
        self._on_retry = on_retry
        self._on_connect = on_connect
        self._connect = connect
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="store")
        self._own = threading.local()
        self._silence = SilenceWatch((policy.statement_timeout + policy.silence).total_seconds())
        self._open: set[Any] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._insists_until = math.inf

    async def run(self, work: Work[T]) -> T:
        """Run `work` in a serializable transaction on a worker thread; see `transact`."""
        return await self.on_a_thread(lambda: self.transact(work))

    async def read(self, work: Work[T]) -> T:
        """Run `work`, a single statement, on a worker thread; see `query`."""
        return await self.on_a_thread(lambda: self.query(work))

    async def on_a_thread(self, call: Callable[[], T]) -> T:
        """Run `call` on a worker thread, where it may use `transact` and `query`."""
        if self._closing.is_set():
            raise StoreUnavailable("the store has been closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def transact(self, work: Work[T], isolation: Isolation = Isolation.SERIALIZABLE) -> T:
        """Run `work` in a transaction until it has been committed, once, and return what it returned.

        Raises `Rejected` for data that the database will not take, `Misconfigured`, and `StoreUnavailable` when the time
        to insist is up (it may have been committed nevertheless). Anything that `work` raises undoes the transaction and
        surfaces at once.
        """
        in_doubt: dict[str, T] = {}
        return self._insist(lambda: self._attempt(work, isolation, in_doubt))

    def query(self, work: Work[T]) -> T:
        """Run `work`, a single statement that is its own transaction and may safely run twice. Raises like `transact`."""
        return self._insist(lambda: self._statement(work))

    def hurry(self, grace: timedelta = HURRIED) -> None:
        """The process is to stop: from now on, insist no longer than `grace`, in total."""
        self._insists_until = time.monotonic() + grace.total_seconds()

    async def close(self) -> None:
        """Finish what is under way, without further retries, and close the connections."""
        self._closing.set()
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """Like `close`, for those who have no event loop."""
        self._closing.set()
        self._threads.shutdown(wait=True)
        self._silence.stop()
        for connection in list(self._open):
            self._drop(connection)

    def _insist(self, attempt: Callable[[], T]) -> T:
        give_up_at = time.monotonic() + self._policy.give_up_after.total_seconds()
        backoff = Backoff(self._policy.first.total_seconds(), self._policy.longest.total_seconds())
        while True:
            try:
                return attempt()
            except psycopg2.Error as error:
                reason = reason_to_retry(error)
                if reason is None:
                    raise translated(error) from error
                pause = backoff.next()
                is_last = time.monotonic() + pause > min(give_up_at, self._insists_until)
                if is_last or self._closing.wait(pause):
                    raise StoreUnavailable(f"the database cannot do it now: {explained(error)}") from error
                self._on_retry(reason, explained(error))

    def _attempt(self, work: Work[T], isolation: Isolation, in_doubt: dict[str, T]) -> T:
        connection = self._connected()
        try:
            self._set_autocommit(connection, False)
            connection.isolation_level = isolation.value  # says nothing yet: BEGIN will
            with connection.cursor() as cursor:
                session = Session(cursor, self._own.watch, isolation)
                if in_doubt and (signature := self._signature(session)) in in_doubt:
                    return in_doubt[signature]
                result = work(session)
                attempt = new_ulid()
                if session.has_written and self._signs:
                    session.execute(_SIGN, (self._own.worker, attempt))
            self._commit(connection, attempt, result, in_doubt)
        except psycopg2.Error as error:
            if spoils_connection(error):
                self._drop(connection)
            raise
        else:
            return result
        finally:
            self._leave(connection)

    def _signature(self, session: Session) -> str:
        rows = session.fetch(_READ_SIGNATURE, (self._own.worker,))
        return rows[0][0] if rows else ""

    def _commit(self, connection: Any, attempt: str, result: T, in_doubt: dict[str, T]) -> None:
        try:
            with self._own.watch:
                connection.commit()
        except psycopg2.Error as error:
            if leaves_doubt(error) and self._signs:
                in_doubt[attempt] = result
            raise

    def _statement(self, work: Work[T]) -> T:
        connection = self._connected()
        try:
            if not connection.autocommit:
                connection.isolation_level = (
                    None  # or the next transaction would begin with a statement about it
                )
            self._set_autocommit(connection, True)
            with connection.cursor() as cursor:
                return work(Session(cursor, self._own.watch))
        except psycopg2.Error as error:
            if spoils_connection(error):
                self._drop(connection)
            raise

    def _leave(self, connection: Any) -> None:
        """Undo what was not committed; closing the connection undoes it too."""
        if connection.closed or connection.status == STATUS_READY:
            return
        try:
            with self._own.watch:
                connection.rollback()
        except psycopg2.Error:
            self._drop(connection)

    def _set_autocommit(self, connection: Any, autocommit: bool) -> None:
        with self._own.watch:  # psycopg2 tells the server of some changes
            connection.autocommit = autocommit

    def _connected(self) -> Any:
        connection = getattr(self._own, "connection", None)
        if connection is not None and not connection.closed:
            return connection
        if connection is not None:
            self._drop(connection)
        self._own.connection = connection = self._new_connection()
        self._own.worker = getattr(self._own, "worker", None) or new_ulid()
        return connection

    def _new_connection(self) -> Any:
        connection = self._connect(**self._options)
        self._own.watch = self._silence.begin(connection)
        with self._lock:
            self._open.add(connection)
        milliseconds = str(int(self._policy.statement_timeout.total_seconds() * 1000))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor, self._own.watch:
                cursor.execute(_PREPARE_SESSION, {"milliseconds": milliseconds})
        except psycopg2.Error:
            self._drop(connection)
            raise
        psycopg2.extras.register_default_jsonb(conn_or_curs=connection, loads=orjson.loads)
        self._on_connect()
        return connection

    def _drop(self, connection: Any) -> None:
        """Let go of a connection; harmless when repeated."""
        with self._lock:
            self._open.discard(connection)
        self._silence.end(connection)
        connection.close()


def _connection_options(dsn: str) -> dict[str, str]:
    try:
        given = parse_dsn(dsn)
    except psycopg2.ProgrammingError as error:
        raise Misconfigured(
            "the database address is neither a URL such as postgresql://user@host/database nor a list of settings"
        ) from error
    # the library says so only when it connects, in the words of a fault that may pass
    wrong = [port for port in given.get("port", "").split(",") if port and not _is_port(port)]
    if wrong:
        raise Misconfigured(f"the database address has the port {wrong[0]!r}: give a number from 1 to 65535")
    return {**_CONNECTION_DEFAULTS, **given}


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 1 << 16
