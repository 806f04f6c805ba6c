"""Runs transactions on a few connections in worker threads, and retries them: the only place that does.

PostgreSQL and CockroachDB ask clients of serializable transactions to try again after a conflict. The same loop rides out
lost connections and servers that start, drain or fail over. The unpleasant case is a connection lost while COMMIT was
under way, after which nobody knows what happened: there, the next attempt first looks whether the last one took effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, LiteralString, TypeVar

import orjson
import psycopg2
import psycopg2.extras
from psycopg2.extensions import ISOLATION_LEVEL_SERIALIZABLE, STATUS_READY, parse_dsn

from pipeline.errors import Misconfigured, Rejected, StoreUnavailable
from pipeline.store.faults import explained, leaves_doubt, reason_to_retry, spoils_connection, translated

T = TypeVar("T")

_CONNECTION_DEFAULTS: Final = {
    "application_name": "labkeeper",
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


class Session:
    """What a transaction's callback may do with the database."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def fetch(self, sql: LiteralString, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows. Raises `Rejected` for text that no database takes."""
        self.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = self._cursor.fetchall()
        return rows

    def execute(self, sql: LiteralString, parameters: Sequence[object] | None = None) -> int:
        """Run a statement and return how many rows it touched. Raises like `fetch`."""
        try:
            self._cursor.execute(sql, parameters)
        except ValueError as error:  # psycopg2 on NUL characters and lone surrogates
            raise Rejected(f"the database does not take it: {error}") from error
        touched: int = self._cursor.rowcount
        return touched


Work = Callable[[Session], T]
"""Called afresh for each attempt; does nothing but ask the session."""
Applied = Callable[[Session, T], bool]
"""Whether the attempt that had this result is in the database."""


def _never(_session: Session, _result: object) -> bool:
    return False


def _ignore(_reason: str) -> None:
    return None


class Database:
    """A few connections, one for each worker thread, made when first needed and again after a loss."""

    def __init__(
        self,
        dsn: str,
        *,
        threads: int = 4,
        policy: RetryPolicy = RetryPolicy(),
        on_retry: Callable[[str], None] = _ignore,
        on_connect: Callable[[], None] = lambda: None,
        connect: Callable[..., Any] = psycopg2.connect,
    ) -> None:
        """`on_retry` gets the SQLSTATE or `connection`; both hooks are called on worker threads."""
        self._options = _connection_options(dsn)
        self._policy = policy
        self._on_retry = on_retry
        self._on_connect = on_connect
        self._connect = connect
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="store")
        self._own = threading.local()
        self._open: set[Any] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()

    async def run(self, work: Work[T], *, applied: Applied[T] = _never) -> T:
        """Run `work` in a serializable transaction on a worker thread; see `transact`."""
        return await self._on_a_thread(lambda: self.transact(work, applied=applied))

    async def read(self, work: Work[T]) -> T:
        """Run `work`, a single statement, on a worker thread; see `query`."""
        return await self._on_a_thread(lambda: self.query(work))

    def transact(self, work: Work[T], *, applied: Applied[T] = _never) -> T:
        """Run `work` in a serializable transaction until it has been committed, and return what it returned.

        When an attempt ends in doubt, the next ones ask `applied` first. Raises `Rejected` for data that the database
        will not take, `Misconfigured`, and `StoreUnavailable` when the time to insist is up (it may have been committed
        nevertheless). Anything that `work` raises undoes the transaction and surfaces at once.
        """
        doubtful: list[T] = []
        return self._insist(lambda: self._attempt(work, applied, doubtful))

    def query(self, work: Work[T]) -> T:
        """Run `work`, a single statement that is its own transaction and may safely run twice. Raises like `transact`."""
        return self._insist(lambda: self._statement(work))

    async def close(self) -> None:
        """Finish what is under way, without further retries, and close the connections."""
        self._closing.set()
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """Like `close`, for those who have no event loop."""
        self._closing.set()
        self._threads.shutdown(wait=True)
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()

    async def _on_a_thread(self, call: Callable[[], T]) -> T:
        if self._closing.is_set():
            raise StoreUnavailable("the store has been closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _insist(self, attempt: Callable[[], T]) -> T:
        give_up_at = time.monotonic() + self._policy.give_up_after.total_seconds()
        retries = 0
        while True:
            try:
                return attempt()
            except psycopg2.Error as error:
                reason = reason_to_retry(error)
                if reason is None:
                    raise translated(error) from error
                pause = self._pause(retries)
                if time.monotonic() + pause > give_up_at or self._closing.wait(pause):
                    raise StoreUnavailable(f"the database cannot do it now: {explained(error)}") from error
                self._on_retry(reason)
                retries += 1

    def _pause(self, retries: int) -> float:
        first, longest = self._policy.first.total_seconds(), self._policy.longest.total_seconds()
        return random.uniform(0, min(longest, first * 2 ** min(retries, 30)))  # noqa: S311  # not a secret

    def _attempt(self, work: Work[T], applied: Applied[T], doubtful: list[T]) -> T:
        connection = self._connected()
        connection.autocommit = False
        try:
            with connection.cursor() as cursor:
                session = Session(cursor)
                for earlier in doubtful:
                    if applied(session, earlier):
                        return earlier
                result = work(session)
            self._commit(connection, result, doubtful)
        except psycopg2.Error as error:
            if spoils_connection(error):
                connection.close()
            raise
        else:
            return result
        finally:
            self._leave(connection)

    def _commit(self, connection: Any, result: T, doubtful: list[T]) -> None:
        try:
            connection.commit()
        except psycopg2.Error as error:
            if leaves_doubt(error):
                doubtful.append(result)
            raise

    def _statement(self, work: Work[T]) -> T:
        connection = self._connected()
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                return work(Session(cursor))
        except psycopg2.Error as error:
            if connection.closed or spoils_connection(error):
                self._forget(connection)
            raise

    def _leave(self, connection: Any) -> None:
        """Undo what was not committed, and keep the connection if it is still good."""
        if not connection.closed and connection.status != STATUS_READY:
            with contextlib.suppress(
                psycopg2.Error
            ):  # whatever is wrong with it shows at once when it is used again
                connection.rollback()
        if connection.closed:
            self._forget(connection)

    def _connected(self) -> Any:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._new_connection()
            self._own.connection = connection
        return connection

    def _new_connection(self) -> Any:
        connection = self._connect(**self._options)
        connection.set_session(isolation_level=ISOLATION_LEVEL_SERIALIZABLE)
        connection.autocommit = True
        milliseconds = str(int(self._policy.statement_timeout.total_seconds() * 1000))
        try:
            with connection.cursor() as cursor:
                cursor.execute(_PREPARE_SESSION, {"milliseconds": milliseconds})
        except psycopg2.Error:
            connection.close()
            raise
        psycopg2.extras.register_default_jsonb(conn_or_curs=connection, loads=orjson.loads)
        with self._lock:
            self._open.add(connection)
        self._on_connect()
        return connection

    def _forget(self, connection: Any) -> None:
        connection.close()
        self._own.connection = None
        with self._lock:
            self._open.discard(connection)


def _connection_options(dsn: str) -> dict[str, str]:
    try:
        given = parse_dsn(dsn)
    except psycopg2.ProgrammingError as error:
        raise Misconfigured(
            "the database address is neither a URL such as postgresql://user@host/database nor a list of settings"
        ) from error
    return {**_CONNECTION_DEFAULTS, **given}
