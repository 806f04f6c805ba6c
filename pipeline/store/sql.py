"""The store on PostgreSQL or CockroachDB.

A batch costs a handful of statements, however many machines it is about. Where all rows are remembered they are written
at once, on condition that they are still in the remembered versions. Otherwise: lock the rows and see their versions; read
those that are not remembered in that version; write. Rows in which only the heartbeat's columns changed are written
narrowly, which leaves the indexes alone. Whoever changes a row by hand must raise its `row_version` as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import psycopg2

from pipeline.errors import MachineNotFound, Rejected
from pipeline.processor.pools import Pools
from pipeline.store import queries
from pipeline.store.cache import RowCache
from pipeline.store.columns import description_from
from pipeline.store.cursor import check_limit, read_cursor, write_cursor
from pipeline.store.edits import DELETED, Edit, check_expected, checked
from pipeline.store.history import lines
from pipeline.store.listing import listing
from pipeline.store.literals import to_json
from pipeline.store.messages import change_message, deletion_message
from pipeline.store.power_rows import withdraw_of_deleted
from pipeline.store.protocol import LABKEEPER_USER, Change, Page, Query, Updated
from pipeline.store.retention import forget_history
from pipeline.store.services import SqlCheckpoints, SqlLeases, SqlOutbox, SqlProgressLog
from pipeline.store.sql_power import SqlPower
from pipeline.store.sql_silences import SqlSilences
from pipeline.store.transaction import Database, OnRetry, RetryPolicy, Session, ignore
from pipeline.store.writing import Order, Outdated, announce, check_versions, write, write_history
from schemas.changes import HistoryEntry
from schemas.description import Description
from schemas.ids import is_machine_id

_NO_POOLS: Final = Pools(())


class SqlStore(SqlPower, SqlSilences, SqlOutbox, SqlProgressLog, SqlLeases, SqlCheckpoints):
    """`protocol.Store` and all its companions, `power_protocol`'s too, on one database. Needs the migrations applied."""

    def __init__(
        self,
        dsn: str,
        *,
        pools: Pools = _NO_POOLS,
        threads: int = 4,
        remembered_rows: int = 50_000,
        policy: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen
        on_retry: OnRetry = ignore,
        connect: Callable[..., Any] = psycopg2.connect,
    ) -> None:
        """`remembered_rows` costs about 5 KB each; 0 reads every row anew."""
        cache = RowCache(remembered_rows)
        database = Database(
            dsn,
            threads=threads,
            policy=policy,
            on_retry=on_retry,
            on_connect=cache.clear,
            connect=connect,
        )
        super().__init__(database, cache, pools)

    async def update(
        self,
        machine_id: str,
        change: Change,
        *,
        now: datetime,
        who: str = LABKEEPER_USER,
        why: str = "",
        create: bool = False,
    ) -> Updated:
        """See the protocol."""
        if not create and not is_machine_id(machine_id):
            raise MachineNotFound(machine_id)
        order = Order(checked({machine_id: [change]}), now, who, why)

        def work(session: Session) -> list[Edit]:
            befores = self._locked(session, [machine_id])
            if not create and not befores:
                raise MachineNotFound(machine_id)
            edits = self._carry_out(session, order, befores)
            updated = edits[0].updated
            if updated.kinds:
                announce(session, change_message(updated, who), updated.after.row_version, now)
            return edits

        edits = await self._database.on_a_thread(lambda: self._transact(work))
        self._remember(edits)
        return edits[0].updated

    async def update_many(
        self, changes: Mapping[str, Sequence[Change]], *, now: datetime, who: str = LABKEEPER_USER
    ) -> Sequence[Updated]:
        """See the protocol."""
        if not changes:
            return []
        order = Order(checked(changes), now, who)
        edits = await self._database.on_a_thread(lambda: self._write_many(order))
        return [each.updated for each in edits]

    def _write_many(self, order: Order) -> list[Edit]:
        try:
            edits = self._transact(lambda session: self._write_at_once(session, order))
        except Outdated:
            edits = self._transact(lambda session: self._write_locked(session, order))
        self._remember(edits)
        return edits

    def _write_at_once(self, session: Session, order: Order) -> list[Edit]:
        """Trust what is remembered, and find out while writing. Raises `Outdated`."""
        edits = self._expected(order)
        if edits is None:
            return self._write_locked(session, order)
        check_versions(session, [each for each in edits if not each.is_heartbeat])
        write(session, order, edits)
        return edits

    def _write_locked(self, session: Session, order: Order) -> list[Edit]:
        return self._carry_out(session, order, self._locked(session, list(order.changes)))

    def _expected(self, order: Order) -> list[Edit] | None:
        """What comes of the remembered rows, if all are remembered and none is rejected: that, the true rows decide."""
        remembered = self._cache.latest(order.changes)
        if len(remembered) < len(order.changes):
            return None
        try:
            return self._edits(order, remembered)
        except Rejected:
            return None

    async def get(self, machine_id: str) -> Description:
        """See the protocol."""
        rows = (
            await self._database.read(lambda session: session.fetch(queries.READ_MACHINE, (machine_id,)))
            if is_machine_id(machine_id)
            else []
        )
        if not rows:
            raise MachineNotFound(machine_id)
        return description_from(rows[0])

    async def list(
        self, query: Query = Query(), *, limit: int | None = None, cursor: str | None = None
    ) -> Page:
        """See the protocol."""
        check_limit(limit)
        after = read_cursor(query, cursor)
        wanted = listing(query, limit=None if limit is None else limit + 1, cursor=after)
        return await self._database.read(
            lambda session: _page(query, session.fetch(wanted.sql, wanted.parameters), limit)
        )

    async def delete(
        self,
        machine_id: str,
        *,
        now: datetime,
        who: str,
        why: str = "",
        versions: Collection[int] | None = None,
    ) -> bool:
        """See the protocol."""
        if not is_machine_id(machine_id):
            return False
        order = Order({}, now, who, why)

        def work(session: Session) -> bool:
            deleted = session.fetch(queries.DELETE_MACHINE, (machine_id,))
            if not deleted:
                return False
            check_expected(machine_id, deleted[0][0], versions)
            version = deleted[0][0] + 1
            session.execute(queries.REMEMBER_VERSION, (machine_id, version))
            write_history(session, lines(machine_id, [DELETED], now=now, version=version), order)
            announce(session, deletion_message(machine_id, version), version, now)
            withdraw_of_deleted(session, machine_id, version, now, who)
            return True

        return await self._database.run(work)

    async def list_powercycle(self) -> Sequence[str]:
        """See the protocol."""
        rows = await self._database.read(lambda session: session.fetch(queries.POWER_CYCLES))
        return [machine_id for (machine_id,) in rows]

    async def free_machines(self, pool: str) -> Sequence[Description]:
        """See the protocol."""
        dimensions = to_json({"task_type": ["sktask"], "pool": [pool]})
        return await self._descriptions(lambda session: session.fetch(queries.FREE_MACHINES, (dimensions,)))

    async def silent_machines(self, *, since: datetime) -> Sequence[Description]:
        """See the protocol."""
        return await self._descriptions(lambda session: session.fetch(queries.SILENT_MACHINES, (since,)))

    async def _descriptions(
        self, fetch: Callable[[Session], Sequence[tuple[Any, ...]]]
    ) -> Sequence[Description]:
        return await self._database.read(lambda session: [description_from(row) for row in fetch(session)])

    async def history(
        self, machine_id: str, *, limit: int = 100, before: str | None = None
    ) -> Sequence[HistoryEntry]:
        """See the protocol."""
        check_limit(limit)
        if not is_machine_id(machine_id):
            return []
        parameters = (machine_id, before, before, limit)
        rows = await self._database.read(lambda session: session.fetch(queries.READ_HISTORY, parameters))
        return [
            HistoryEntry(
                id=entry_id, machine_id=owner, at=at, kind=kind, who=who, before=old, after=new, why=why
            )
            for entry_id, owner, at, kind, who, old, new, why in rows
        ]

    async def forget_history(self, *, before: datetime) -> int:
        """See the protocol."""
        return await self._database.on_a_thread(lambda: forget_history(self._database, before))

    async def check(self) -> None:
        """See the protocol."""
        await self._database.read(lambda session: session.fetch(queries.PING))

    def hurry(self) -> None:
        """The process is to stop: no longer insist on a database that is away."""
        self._database.hurry()

    async def close(self) -> None:
        """See the protocol."""
        await self._database.close()


def _page(query: Query, rows: list[tuple[Any, ...]], limit: int | None) -> Page:
    shown = rows if limit is None else rows[:limit]
    last = shown[-1] if len(shown) < len(rows) else None
    next_cursor = None if last is None else write_cursor(query, last[1], last[0])
    return Page([description_from(row) for _, _, *row in shown], next_cursor)
