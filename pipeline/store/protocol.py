"""What every store promises. The SQL store and the one in memory pass `tests/contract/test_store.py`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from pipeline.broker.protocol import Outgoing
from schemas.changes import ChangeKind, HistoryEntry
from schemas.description import Description
from schemas.health import Health

LABKEEPER_USER: Final = "labkeeper"
"""Who makes automatic changes."""

PROGRESS_GAP: Final = timedelta(seconds=15)
"""A service that said nothing of its progress for longer counts as alive anew."""

Change = Callable[[Description], Description]
"""Makes a Description from a Description. Pure: a transaction that is retried calls it again. Returning the very same
object means "nothing to do": nothing is written. It may raise `Rejected`, which undoes the whole call."""


@dataclass(frozen=True, slots=True)
class Updated:
    """What an update did to one machine."""

    machine_id: str
    after: Description
    """With `row_version` set."""
    kinds: Sequence[ChangeKind]
    """Empty: nothing was written (all changes returned what they were given)."""


class SortKey(StrEnum):
    """Columns that a listing can be sorted by; of texts the first 256 characters. Ties are broken by machine id, ascending."""

    ID = "id"
    ATTACHED_DEVICE = "attached_device"
    LAST_UPDATED = "last_updated"
    BATTERY = "battery"
    DEVICE_UPTIME = "device_uptime"
    MAINTENANCE_MODE = "maintenance_mode"
    RECOVERING = "recovering"
    VERSION = "version"
    DOWN_SINCE = "down_since"


@dataclass(frozen=True, slots=True)
class Query:
    """Which machines, in which order. All conditions must hold."""

    dimensions: Mapping[str, str] = field(default_factory=dict)
    """Dimension to a value that must be among its values."""
    health: Sequence[Health] = ()
    """States that must all hold."""
    attached_device: str | None = None
    text: str = ""
    """Words; each must occur, in any case, in the machine's id, dimensions, notes, annotation or state texts."""
    sort: SortKey = SortKey.ID
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing."""

    machines: Sequence[Description]
    next_cursor: str | None
    """Opaque; give it back to continue. None: this was the last page."""


class Store(Protocol):
    """One row a machine, and its history. Every write is one retried, serializable transaction.

    After each change the rules of `processor.normalize` apply: empty dimensions are dropped, `task_type` and `pool` are
    filled in, the `quarantined` dimension is recomputed, times are cut to milliseconds. So a batch leaves what one call
    for each change would leave, except that `row_version` grows by one in each call that writes the row.

    All methods raise `StoreUnavailable` when the database stays out of reach; a write may have been applied nevertheless
    (at most once). A machine id that breaks the rule of `schemas.ids` names no machine; to create one is `Rejected`. A
    limit below 1 is a ValueError.
    """

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
        """Change one machine for a person or for the watchdog: row, history and outbox message in one transaction.

        The message is a MachineChange on `machine.changes`. Unknown machine: `MachineNotFound`, unless `create`.
        """
        ...

    async def update_many(
        self, changes: Mapping[str, Sequence[Change]], *, now: datetime, who: str = LABKEEPER_USER
    ) -> Sequence[Updated]:
        """Apply each machine's changes in order, all machines in one transaction; unknown machines are created, unless
        there was nothing to do (then `after` is what the machine would have started from, in version 0).

        Writes history but no outbox message: the caller publishes the changes and then acknowledges its input. History
        has a line for every step, also for those that cancel one another out within the call. The result has one entry
        for every machine asked for, in the same order. A change that raises `Rejected`, and data that the database will
        not take (also `Rejected`), undo the whole call: split it to find the culprit.
        """
        ...

    async def get(self, machine_id: str) -> Description:
        """One machine; raises `MachineNotFound`."""
        ...

    async def list(
        self, query: Query = Query(), *, limit: int | None = None, cursor: str | None = None
    ) -> Page:
        """Machines by filter, sorted, by pages (all in one page without `limit`).

        A page continues behind the last machine of the one before, also when machines came and went meanwhile. A cursor
        that is not one of ours raises ValueError.
        """
        ...

    async def delete(
        self,
        machine_id: str,
        *,
        now: datetime,
        who: str,
        why: str = "",
        versions: Collection[int] | None = None,
    ) -> bool:
        """Delete a machine, with an outbox message (empty value) and a line of history. False: there was none.

        With `versions` only a machine whose `row_version` is among them: otherwise `VersionMismatch`.

        Should the machine come back, its `row_version` goes on behind the deletion's, so that higher always is newer.
        """
        ...

    async def list_powercycle(self) -> Sequence[str]:
        """Ids of machines whose power cycle is wanted, sorted."""
        ...

    async def free_machines(self, pool: str) -> Sequence[Description]:
        """Machines of a pool that run `task_type` sktask and have no work: available ones only, sorted by id."""
        ...

    async def history(
        self, machine_id: str, *, limit: int = 100, before: str | None = None
    ) -> Sequence[HistoryEntry]:
        """Newest first; `before` is the id of an entry to continue behind. Unknown machines have no history: []."""
        ...

    async def forget_history(self, *, before: datetime) -> int:
        """Drop history older than `before`; return how many lines went."""
        ...

    async def silent_machines(self, *, since: datetime) -> Sequence[Description]:
        """Machines not marked down whose `last_updated` lies before `since`, sorted by id."""
        ...

    async def check(self) -> None:
        """Return if the database answers; raise `StoreUnavailable` if not. For readiness probes."""
        ...

    async def close(self) -> None:
        """Let go of all connections."""
        ...


class Outbox(Protocol):
    """Messages written together with the rows they speak of, until the relay has published them."""

    async def take(self, *, limit: int) -> Sequence[OutboxRow]:
        """Rows that wait, in order for each key and without a gap at its beginning. They stay until removed."""
        ...

    async def remove(self, rows: Sequence[OutboxRow]) -> None:
        """Forget rows that have been published."""
        ...


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message that waits to be published."""

    id: str
    """ULID."""
    version: int
    """`row_version` at the time: within a key, lower ones go first."""
    message: Outgoing
    written_at: datetime


@dataclass(frozen=True, slots=True)
class Progress:
    """What one service that machines depend on says of itself, for the watchdog to judge silence by."""

    service: str
    """`writer` or `facade`."""
    instance: str
    """Partition number or replica name."""
    alive_since: datetime
    """Since when it has been at work without a gap."""
    seen_at: datetime
    """When it last said so."""
    caught_up_to: datetime
    """Everything published before this moment has been applied."""


class ProgressLog(Protocol):
    """Where the services record their progress."""

    async def record(self, service: str, caught_up_to: Mapping[str, datetime], *, now: datetime) -> None:
        """Record for each instance how far it is. After more than `PROGRESS_GAP`, `alive_since` starts anew at `now`."""
        ...

    async def progress(self) -> Sequence[Progress]:
        """All records."""
        ...


class Leases(Protocol):
    """Names that one process at a time may hold, such as `outbox-relay`."""

    async def acquire(self, name: str, owner: str, *, seconds: float) -> bool:
        """Take or renew the lease; False while another owner's runs. Judged by the database's clock."""
        ...

    async def release(self, name: str, owner: str) -> None:
        """Give it up, if it is ours."""
        ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a service was in the middle of."""

    revision: int
    """Counts the savings, from 1."""
    content: bytes


class Checkpoints(Protocol):
    """Where a service keeps what it must not lose, under a name of its own."""

    async def checkpoint(self, name: str) -> Checkpoint | None:
        """What was saved last; None: nothing yet."""
        ...

    async def save_checkpoint(self, name: str, checkpoint: Checkpoint, *, owner: str) -> bool:
        """Replace the revision just before this one. False: somebody else has saved meanwhile, and nothing was done.

        Safe to repeat: a revision that this owner has saved already may be saved again.
        """
        ...
