"""Silences on a database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pipeline.store import power_queries as queries
from pipeline.store.power_protocol import SILENCES_KEPT
from pipeline.store.transaction import Database, Session
from schemas.silence import Silence


class SqlSilences:
    """`power_protocol.Silences` on a database."""

    _database: Database

    async def add_silence(self, silence: Silence) -> None:
        """See the protocol."""
        row = (
            silence.id,
            silence.owner,
            silence.reason,
            silence.machine,
            silence.pool,
            silence.starts_at,
            silence.ends_at,
        )

        def work(session: Session) -> None:
            session.execute(queries.FORGET_SILENCES, (SILENCES_KEPT,))
            session.execute(queries.WRITE_SILENCE, row)

        await self._database.run(work)

    async def end_silence(self, silence_id: str, *, now: datetime) -> bool:
        """See the protocol."""
        ended = await self._database.run(
            lambda session: session.execute(queries.END_SILENCE, (now, silence_id, now))
        )
        return ended > 0

    async def silences(self, *, now: datetime | None = None) -> Sequence[Silence]:
        """See the protocol."""
        if now is None:
            rows = await self._database.read(
                lambda session: session.fetch(queries.READ_KEPT_SILENCES, (SILENCES_KEPT,))
            )
        else:
            rows = await self._database.read(lambda session: session.fetch(queries.READ_SILENCES, (now,)))
        return [_silence_from(row) for row in rows]


def _silence_from(row: Sequence[Any]) -> Silence:
    silence_id, owner, reason, machine, pool, starts_at, ends_at = row
    return Silence(
        id=silence_id,
        owner=owner,
        reason=reason,
        machine=machine,
        pool=pool,
        starts_at=starts_at,
        ends_at=ends_at,
    )
