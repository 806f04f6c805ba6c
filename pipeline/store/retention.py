"""Forgets old history, machine by machine.

An index on the time would lead to the old lines at once. It would also make every new line, of whichever machine, an entry
at one and the same end of one index: on CockroachDB that end is on one node, and the cluster writes history no faster than
that node. Within a machine lines lie in the order of time already, because their ids are ULIDs.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, LiteralString

from ulid import ULID

from pipeline.store import queries
from pipeline.store.literals import plain_array
from pipeline.store.transaction import Database, forget_signatures

_MACHINES_AT_ONCE: Final = 500
_LINES_AT_ONCE: Final = 1000
"""Lines dropped in one statement: neither locks nor CockroachDB's limits on a transaction are to hurt."""
_MILLISECOND: Final = timedelta(milliseconds=1)


def forget_history(database: Database, before: datetime) -> int:
    """Drop lines older than `before`, and what else nobody needs any more; return how many lines went.

    A machine that is deleted meanwhile is found among the deleted ones, which are looked through last.
    """
    database.query(forget_signatures)
    return sum(
        _forget(database, machine_ids, before)
        for page in (queries.NEXT_MACHINES, queries.NEXT_DELETED_MACHINES)
        for machine_ids in _pages(database, page)
    )


def _pages(database: Database, sql: LiteralString) -> Iterator[list[str]]:
    """All ids, in order, so many at a time."""
    last = ""
    while True:
        parameters = (last, _MACHINES_AT_ONCE)
        rows = database.query(lambda session: session.fetch(sql, parameters))  # noqa: B023  # called at once
        if rows:
            yield [machine_id for (machine_id,) in rows]
        if len(rows) < _MACHINES_AT_ONCE:
            return
        last = rows[-1][0]


def _forget(database: Database, machine_ids: list[str], before: datetime) -> int:
    behind = str(ULID.from_datetime(before + _MILLISECOND))[:10] + "0" * 16  # ids are in milliseconds
    parameters = (plain_array(machine_ids), behind, before, _LINES_AT_ONCE)
    forgotten = 0
    while True:
        dropped = database.query(lambda session: session.execute(queries.FORGET_HISTORY, parameters))
        forgotten += dropped
        if dropped < _LINES_AT_ONCE:
            return forgotten
