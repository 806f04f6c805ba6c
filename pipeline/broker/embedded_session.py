"""A connection of the embedded broker, used from one thread of its own, so that waiting for it blocks nobody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import psycopg2
import psycopg2.errors

from pipeline.errors import BrokerUnavailable, Misconfigured

Result = TypeVar("Result")
Connection = Any  # psycopg2 has no types
Cursor = Any

_CONNECT_TIMEOUT_S: Final = 5
# A client that is stopped in the middle of a transaction must not hold up all others.
_LIMITS: Final = (
    "SET statement_timeout = '30s'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '5s';"
    " SET work_mem = '32MB'; SET client_min_messages = warning"
)


def connect(dsn: str) -> Connection:
    """A new connection in autocommit mode. Blocks; raises `BrokerUnavailable`."""
    with translated():
        connection = psycopg2.connect(
            dsn,
            connect_timeout=_CONNECT_TIMEOUT_S,
            application_name="labkeeper broker",
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(_LIMITS)
        return connection


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what psycopg2 raises for faults of the surroundings into `BrokerUnavailable`."""
    try:
        yield
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        raise BrokerUnavailable(_text(error)) from error
    except psycopg2.errors.InsufficientPrivilege as error:
        raise Misconfigured(
            f"the embedded broker's database user lacks a right ({_text(error)}): grant it CREATE on the database, and"
            " everything in the schema labkeeper_broker"
        ) from error
    except psycopg2.DatabaseError as error:
        if error.pgcode is None or error.pgcode.startswith(
            "25"
        ):  # cut off in mid-sentence, or read-only for now
            raise BrokerUnavailable(_text(error)) from error
        raise


def _text(error: psycopg2.Error) -> str:
    return f"embedded broker: {' '.join(str(error).split()) or 'connection lost'}"


class Session:
    """Runs functions on one connection, one after the other, and connects again after a failure."""

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn = dsn
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"broker-{name}")
        self._connection: Connection | None = None
        self._is_closed = False

    async def run(self, work: Callable[[Cursor], Result]) -> Result:
        """Call `work` with a cursor in autocommit mode. Raises `BrokerUnavailable`, or what `work` raises."""
        if self._is_closed:
            raise BrokerUnavailable("embedded broker: closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    async def transaction(self, work: Callable[[Cursor], Result]) -> Result:
        """Like `run`, in a transaction."""
        return await self.run(lambda cursor: _in_transaction(cursor, work))

    async def close(self) -> None:
        """Finish what is under way and disconnect. Harmless when repeated."""
        if self._is_closed:
            return
        self._is_closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    def _run(self, work: Callable[[Cursor], Result]) -> Result:
        if self._connection is None:
            self._connection = connect(self._dsn)
        done = False
        try:
            with translated(), self._connection.cursor() as cursor:
                result = work(cursor)
                done = True
                return result
        finally:
            if not done:  # its state is unknown
                self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _in_transaction(cursor: Cursor, work: Callable[[Cursor], Result]) -> Result:
    cursor.execute("BEGIN")
    result = work(cursor)
    cursor.execute("COMMIT")
    return result
