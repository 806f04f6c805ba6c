"""Publishing to the embedded broker: everything that waits at the same time goes out in one transaction.

There is no artificial delay: while one transaction commits, the callers of the next one gather.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Final

from pipeline.broker import embedded_log
from pipeline.broker.embedded_log import Block
from pipeline.broker.embedded_session import Session
from pipeline.broker.record_batch import Record, encode
from pipeline.errors import BrokerUnavailable

_TRANSACTION_BYTES: Final = 8 * 1024 * 1024
_BLOCK_BYTES: Final = 4 * 1024 * 1024
_BLOCK_RECORDS: Final = 500
_MOST_WAITING_BYTES: Final = 64 * 1024 * 1024

Addressed = tuple[int, Record]
"""A partition's id, and what goes there."""


@dataclass(slots=True)
class _Transaction:
    """Records that will be published together; more may join until it begins."""

    records: list[Addressed] = field(default_factory=list)
    size: int = 0


class Publisher:
    """Adds records to the log on one connection, in the order of the calls."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._gathering: tuple[_Transaction, asyncio.Task[None]] | None = None
        self._turn = asyncio.Lock()
        self._room = asyncio.Condition()
        self._under_way: set[asyncio.Task[None]] = set()
        self._waiting_bytes = 0
        self._closed = False

    async def publish(self, records: Sequence[Addressed]) -> None:
        """Publish records and return once they are safe; waits while too much is under way."""
        for part in _cut(records, size=_TRANSACTION_BYTES):
            await self._publish(part, sum(record.size for _, record in part))

    async def close(self) -> None:
        """Publish what has been taken, and take no more."""
        self._closed = True
        async with self._room:
            self._room.notify_all()
        if self._under_way:
            await asyncio.wait(self._under_way)
        await self._session.close()

    async def _publish(self, records: Sequence[Addressed], size: int) -> None:
        async with self._room:
            await self._room.wait_for(lambda: self._has_room(size))
            if self._closed:
                raise BrokerUnavailable("embedded broker: closed")
            self._waiting_bytes += size
        if self._gathering is None or self._gathering[0].size + size > _TRANSACTION_BYTES:
            self._gathering = self._begin_gathering()
        transaction, task = self._gathering
        transaction.records.extend(records)
        transaction.size += size
        await asyncio.shield(task)  # a caller that goes away takes nobody else's messages along

    def _has_room(self, size: int) -> bool:
        return self._closed or not self._waiting_bytes or self._waiting_bytes + size <= _MOST_WAITING_BYTES

    def _begin_gathering(self) -> tuple[_Transaction, asyncio.Task[None]]:
        transaction = _Transaction()
        task = asyncio.create_task(self._commit(transaction))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return transaction, task

    async def _commit(self, transaction: _Transaction) -> None:
        try:
            async with self._turn:
                if self._gathering is not None and self._gathering[0] is transaction:
                    self._gathering = None  # latecomers take the next one
                await self._session.run(
                    lambda cursor: embedded_log.append(cursor, _blocks(transaction.records))
                )
        finally:
            async with self._room:
                self._waiting_bytes -= transaction.size
                self._room.notify_all()


def _blocks(records: Sequence[Addressed]) -> list[Block]:
    blocks = []
    for partition_id, group in groupby(sorted(records, key=itemgetter(0)), key=itemgetter(0)):
        for part in _cut(list(group), size=_BLOCK_BYTES, count=_BLOCK_RECORDS):
            own = [record for _, record in part]
            blocks.append(Block(partition_id, len(own), sum(record.size for record in own), encode(own)))
    return blocks


def _cut(
    records: Sequence[Addressed], *, size: int, count: int | None = None
) -> Iterator[Sequence[Addressed]]:
    """The records in pieces of about `size` bytes and at most `count` records."""
    begin = filled = 0
    for at, (_, record) in enumerate(records):
        is_full = filled + record.size > size or (count is not None and at - begin >= count)
        if is_full and at > begin:
            yield records[begin:at]
            begin, filled = at, 0
        filled += record.size
    if begin < len(records):
        yield records[begin:]
