"""The store in memory, for tests of whatever uses a store. Lost with the process; one event loop only.

It promises what the SQL store promises and is held to it by the same contract suite; text that no database takes is
refused here as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from pipeline.clock import Clock, SystemClock
from pipeline.errors import MachineNotFound
from pipeline.processor.pools import Pools
from pipeline.store.cursor import check_limit, read_cursor, write_cursor
from pipeline.store.edits import DELETED, check_expected, checked
from pipeline.store.memory_power import MemoryPower, MemorySilences
from pipeline.store.memory_rows import check_text
from pipeline.store.messages import change_message, deletion_message
from pipeline.store.protocol import (
    LABKEEPER_USER,
    PROGRESS_GAP,
    Change,
    Checkpoint,
    OutboxRow,
    Page,
    Progress,
    Query,
    Updated,
)
from pipeline.store.selection import rest, select
from schemas.changes import HistoryEntry
from schemas.description import Description
from schemas.health import Health

_NO_POOLS: Final = Pools(())
_CLOCK: Final = SystemClock()


class MemoryStore(MemoryPower, MemorySilences):
    """`protocol.Store`, `Outbox`, `ProgressLog`, `Leases`, `Checkpoints`, `PowerStore` and `Silences` in dictionaries."""

    def __init__(self, *, pools: Pools = _NO_POOLS, clock: Clock = _CLOCK) -> None:
        """Leases and old silences are judged by `clock`."""
        super().__init__(pools, clock)
        self._progress: dict[tuple[str, str], Progress] = {}
        self._leases: dict[str, tuple[str, datetime]] = {}
        self._checkpoints: dict[str, tuple[str, Checkpoint]] = {}

    # --- machines ------------------------------------------------------------------------------------------------------

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
        if not create and machine_id not in self._machines:
            raise MachineNotFound(machine_id)
        (edited,) = self._edits(checked({machine_id: [change]}), now)
        self._write([edited], now, who, why)
        if edited.kinds:
            self._announce(change_message(edited.updated, who), edited.after.row_version, now)
        return edited.updated

    async def update_many(
        self, changes: Mapping[str, Sequence[Change]], *, now: datetime, who: str = LABKEEPER_USER
    ) -> Sequence[Updated]:
        """See the protocol."""
        edits = self._edits(checked(changes), now)
        self._write(edits, now, who, "")
        return [each.updated for each in edits]

    async def get(self, machine_id: str) -> Description:
        """See the protocol."""
        if machine_id not in self._machines:
            raise MachineNotFound(machine_id)
        return self._machines[machine_id]

    async def list(
        self, query: Query = Query(), *, limit: int | None = None, cursor: str | None = None
    ) -> Page:
        """See the protocol."""
        check_limit(limit)
        rows = rest(query, select(query, self._machines), read_cursor(query, cursor))
        shown = rows if limit is None else rows[:limit]
        last = shown[-1] if len(shown) < len(rows) else None
        next_cursor = None if last is None else write_cursor(query, last[1], last[0])
        return Page([description for _, _, description in shown], next_cursor)

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
        check_text(who, why)
        deleted = self._machines.get(machine_id)
        if deleted is None:
            return False
        check_expected(machine_id, deleted.row_version, versions)
        del self._machines[machine_id]
        version = deleted.row_version + 1
        self._last_versions[machine_id] = version
        self._add_history(machine_id, [DELETED], version, now, who, why)
        self._announce(deletion_message(machine_id, version), version, now)
        self._withdraw_of_deleted(machine_id, version, now, who)
        return True

    async def list_powercycle(self) -> Sequence[str]:
        """See the protocol."""
        return sorted(machine_id for machine_id, each in self._machines.items() if each.power_cycle)

    async def free_machines(self, pool: str) -> Sequence[Description]:
        """See the protocol."""
        query = Query(dimensions={"task_type": "sktask", "pool": pool}, health=[Health.AVAILABLE])
        return [each for _, _, each in select(query, self._machines) if not each.is_busy]

    async def silent_machines(self, *, since: datetime) -> Sequence[Description]:
        """See the protocol."""
        return [
            each
            for _, each in sorted(self._machines.items(), key=lambda item: item[0])
            if not each.is_down and each.last_updated < since
        ]

    # --- history -------------------------------------------------------------------------------------------------------

    async def history(
        self, machine_id: str, *, limit: int = 100, before: str | None = None
    ) -> Sequence[HistoryEntry]:
        """See the protocol."""
        check_limit(limit)
        entries = sorted(self._history.get(machine_id, ()), key=lambda each: each.id, reverse=True)
        return [each for each in entries if before is None or each.id < before][:limit]

    async def forget_history(self, *, before: datetime) -> int:
        """See the protocol."""
        forgotten = 0
        for machine_id, entries in self._history.items():
            kept = [each for each in entries if each.at >= before]
            forgotten += len(entries) - len(kept)
            self._history[machine_id] = kept
        return forgotten

    # --- outbox --------------------------------------------------------------------------------------------------------

    async def take(self, *, limit: int) -> Sequence[OutboxRow]:
        """See the protocol."""
        check_limit(limit)
        return [self._outbox[place] for place in sorted(self._outbox)[:limit]]

    async def remove(self, rows: Sequence[OutboxRow]) -> None:
        """See the protocol."""
        for row in rows:
            self._outbox.pop((row.message.key, row.version, row.id), None)

    # --- progress and leases -------------------------------------------------------------------------------------------

    async def record(self, service: str, caught_up_to: Mapping[str, datetime], *, now: datetime) -> None:
        """See the protocol."""
        for instance, moment in caught_up_to.items():
            last = self._progress.get((service, instance))
            gap = last is None or now - last.seen_at > PROGRESS_GAP
            alive_since = now if last is None or gap else last.alive_since
            self._progress[service, instance] = Progress(service, instance, alive_since, now, moment)

    async def progress(self) -> Sequence[Progress]:
        """See the protocol."""
        return [self._progress[place] for place in sorted(self._progress)]

    async def acquire(self, name: str, owner: str, *, seconds: float) -> bool:
        """See the protocol."""
        now = self._clock.now()
        holder, expires_at = self._leases.get(name, (owner, now))
        if holder != owner and expires_at > now:
            return False
        self._leases[name] = (owner, now + timedelta(seconds=seconds))
        return True

    async def release(self, name: str, owner: str) -> None:
        """See the protocol."""
        if self._leases.get(name, ("", None))[0] == owner:
            del self._leases[name]

    # --- checkpoints ---------------------------------------------------------------------------------------------------

    async def checkpoint(self, name: str) -> Checkpoint | None:
        """See the protocol."""
        saved = self._checkpoints.get(name)
        return None if saved is None else saved[1]

    async def save_checkpoint(self, name: str, checkpoint: Checkpoint, *, owner: str) -> bool:
        """See the protocol."""
        saved_by, saved = self._checkpoints.get(name, (owner, Checkpoint(checkpoint.revision - 1, b"")))
        is_next = saved.revision == checkpoint.revision - 1
        if not (is_next or (saved.revision == checkpoint.revision and saved_by == owner)):
            return False
        self._checkpoints[name] = (owner, checkpoint)
        return True

    # --- life ----------------------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """See the protocol."""

    async def close(self) -> None:
        """See the protocol."""
