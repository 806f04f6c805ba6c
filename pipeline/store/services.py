"""The smaller halves of the SQL store: outbox, progress of the services, leases, checkpoints.

Each call is a single statement that may safely run twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from pipeline.broker.protocol import Outgoing
from pipeline.store import queries
from pipeline.store.cursor import check_limit
from pipeline.store.literals import plain_array, text_array
from pipeline.store.protocol import PROGRESS_GAP, Checkpoint, OutboxRow, Progress
from pipeline.store.transaction import Database


class SqlOutbox:
    """`protocol.Outbox` on a database."""

    _database: Database

    async def take(self, *, limit: int) -> Sequence[OutboxRow]:
        """See the protocol."""
        check_limit(limit)
        rows = await self._database.read(lambda session: session.fetch(queries.TAKE_OUTBOX, (limit,)))
        return [
            OutboxRow(row_id, version, Outgoing(topic, key, bytes(value), headers), written_at)
            for row_id, version, topic, key, value, headers, written_at in rows
        ]

    async def remove(self, rows: Sequence[OutboxRow]) -> None:
        """See the protocol."""
        if not rows:
            return
        keys = text_array(row.message.key for row in rows)
        ids = text_array(row.id for row in rows)
        await self._database.read(lambda session: session.execute(queries.REMOVE_OUTBOX, (keys, ids)))


class SqlProgressLog:
    """`protocol.ProgressLog` on a database."""

    _database: Database

    async def record(self, service: str, caught_up_to: Mapping[str, datetime], *, now: datetime) -> None:
        """See the protocol."""
        if not caught_up_to:
            return
        parameters = (
            service,
            now,
            now,
            text_array(caught_up_to),
            plain_array(list(caught_up_to.values())),
            PROGRESS_GAP,
        )
        await self._database.read(lambda session: session.execute(queries.RECORD_PROGRESS, parameters))

    async def progress(self) -> Sequence[Progress]:
        """See the protocol."""
        rows = await self._database.read(lambda session: session.fetch(queries.READ_PROGRESS))
        return [Progress(*row) for row in rows]


class SqlLeases:
    """`protocol.Leases` on a database."""

    _database: Database

    async def acquire(self, name: str, owner: str, *, seconds: float) -> bool:
        """See the protocol."""
        parameters = (name, owner, timedelta(seconds=seconds))
        return bool(
            await self._database.read(lambda session: session.fetch(queries.ACQUIRE_LEASE, parameters))
        )

    async def release(self, name: str, owner: str) -> None:
        """See the protocol."""
        await self._database.read(lambda session: session.execute(queries.RELEASE_LEASE, (name, owner)))


class SqlCheckpoints:
    """`protocol.Checkpoints` on a database."""

    _database: Database

    async def checkpoint(self, name: str) -> Checkpoint | None:
        """See the protocol."""
        rows = await self._database.read(lambda session: session.fetch(queries.READ_CHECKPOINT, (name,)))
        return Checkpoint(rows[0][0], bytes(rows[0][1])) if rows else None

    async def save_checkpoint(self, name: str, checkpoint: Checkpoint, *, owner: str) -> bool:
        """See the protocol."""
        parameters = (name, checkpoint.revision, owner, checkpoint.content)
        return bool(
            await self._database.read(lambda session: session.fetch(queries.SAVE_CHECKPOINT, parameters))
        )
