"""The façade's view of all machines: loaded once from the store, then kept fresh by its own reading of `machine.changes`.

It keeps each machine as the JSON that clients get, made once, and the latest changes in a log of bounded size, from which
a stream resumes. The subscription begins before the store is read, so nothing falls between the two; a version decides
which of two states is newer, and versions go on counting across a deletion.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Final, Self

from pydantic import ValidationError

from consumers.facade.answers import as_go, json_of
from consumers.facade.settings import FacadeSettings
from pipeline import logs, metrics
from pipeline.broker.protocol import Broker, From, Received, Subscription
from pipeline.broker.reading import until_stopped
from pipeline.service import Abandoned, persist, together
from pipeline.store.protocol import Page, Query, Store
from schemas import envelope
from schemas.changes import MachineChange
from schemas.description import Description
from schemas.ids import new_ulid
from schemas.topics import MACHINE_CHANGES
from schemas.wire import explain

_PAGE: Final = 1000
_REMEMBERED_DELETIONS: Final = 10_000
_DELETED: Final = b""
_WAIT_FOR_MORE: Final = timedelta(milliseconds=2)

_OUR_SPELLING: Final = re.compile(
    rb'\{"id":"[^"\\]*","version":(\d{1,18}),"kinds":\[[^\[\]]*\],"who":"(?:[^"\\]|\\.)*","description":(\{[^\n\r]*\})\}'
)
"""A MachineChange as our writer and relay spell it: version and description are taken out without reading the rest."""

log = logs.get_logger()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One machine, or what became of it."""

    id: str
    version: int
    json: bytes
    """The Description; empty when the machine was deleted."""

    @classmethod
    def of(cls, machine_id: str, description: Description) -> Self:
        """A machine as the store has it."""
        return cls(machine_id, description.row_version, json_of(description))


@dataclass(frozen=True, slots=True)
class Change:
    """A snapshot's place in the log."""

    position: int
    machine: Snapshot


Listener = Callable[[Sequence[Change]], None]


class Fleet:
    """All machines."""

    def __init__(self, settings: FacadeSettings) -> None:
        self.boot_id: Final = new_ulid()
        """Positions count within one life of this object."""
        self.loaded: Final = asyncio.Event()
        """Set once all that the store knew is here."""
        self._machines: dict[str, Snapshot] = {}
        self._deleted: OrderedDict[str, int] = OrderedDict()
        self._log: deque[Change] = deque()
        self._log_bytes = 0
        self._settings = settings
        self._listeners: list[Listener] = []
        self.position = 0
        """Of the latest change."""

    def __len__(self) -> int:
        return len(self._machines)

    def get(self, machine_id: str) -> Snapshot | None:
        """The machine as we know it."""
        return self._machines.get(machine_id)

    def machines(self) -> list[Snapshot]:
        """All of them, now."""
        return list(self._machines.values())

    def since(self, position: int, max_bytes: int) -> Sequence[Change] | None:
        """The next changes after `position`, oldest first, about so many bytes; None when not all of them are known."""
        first = self._log[0].position if self._log else self.position + 1
        if not first - 1 <= position <= self.position:
            return None
        found: list[Change] = []
        size = 0
        for change in islice(self._log, position + 1 - first, None):
            if size >= max_bytes:
                break
            found.append(change)
            size += len(change.machine.json)
        return found

    def listen(self, listener: Listener) -> None:
        """Call it with all that is new, in order, whenever something is."""
        self._listeners.append(listener)

    def take(self, snapshots: Sequence[Snapshot]) -> None:
        """Take what is newer than what we know."""
        news = [change for each in snapshots if (change := self._take(each)) is not None]
        if news:
            for listener in self._listeners:
                listener(news)

    def _take(self, snapshot: Snapshot) -> Change | None:
        known = self._machines.get(snapshot.id)
        if snapshot.version <= (self._deleted.get(snapshot.id, 0) if known is None else known.version):
            return None
        if snapshot.json:
            self._machines[snapshot.id] = snapshot
            self._deleted.pop(snapshot.id, None)
        else:
            self._machines.pop(snapshot.id, None)
            self._remember_deletion(snapshot)
            if known is None:
                return None
        return self._append(snapshot)

    def _remember_deletion(self, snapshot: Snapshot) -> None:
        """What was published before it may still be on its way, and must not bring the machine back."""
        self._deleted[snapshot.id] = snapshot.version
        self._deleted.move_to_end(snapshot.id)
        if len(self._deleted) > _REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)

    def _append(self, snapshot: Snapshot) -> Change:
        self.position += 1
        change = Change(self.position, snapshot)
        self._log.append(change)
        self._log_bytes += len(snapshot.json)
        while (
            len(self._log) > self._settings.change_log_length
            or self._log_bytes > self._settings.change_log_bytes
        ):
            self._log_bytes -= len(self._log.popleft().machine.json)
        return change

    async def run(self, store: Store, broker: Broker, stop: asyncio.Event) -> None:
        """Load all machines and follow their changes until `stop` is set. Waits for a store and broker that are away."""
        async with AsyncExitStack() as stack:

            async def subscribe() -> Subscription:
                changes = broker.subscribe(
                    MACHINE_CHANGES, group=None, start=From.LATEST, max_wait=_WAIT_FOR_MORE
                )
                return await stack.enter_async_context(changes)

            try:
                reader = await persist(subscribe, "broker_unavailable", stop)
                await together(self._load(store, stop), self._follow(reader, stop))
            except Abandoned:
                log.info("fleet_not_loaded", reason="asked to stop")

    async def _load(self, store: Store, stop: asyncio.Event) -> None:
        cursor: str | None = None
        while not stop.is_set():
            page: Page = await persist(
                partial(store.list, Query(), limit=_PAGE, cursor=cursor), "store_unavailable", stop
            )
            self.take([Snapshot.of(each.dimension("id")[0], each) for each in page.machines])
            cursor = page.next_cursor
            if cursor is None:
                self.loaded.set()
                log.info("fleet_loaded", machines=len(self._machines))
                return

    async def _follow(self, reader: Subscription, stop: asyncio.Event) -> None:
        async for batch in until_stopped(reader, stop):
            self.take([each for each in map(read_change, batch.messages) if each is not None])
            metrics.CHANGES_RECEIVED.labels("broker").inc(len(batch.messages))


def read_change(message: Received) -> Snapshot | None:
    """The machine that a message of `machine.changes` tells of; None, with a line in the log, when it is none."""
    if not message.value:
        version = message.headers.get(envelope.ROW_VERSION, "")
        if not version.isascii() or not version.isdigit():
            log.warning("change_not_read", machine=message.key, reason="a deletion without a version")
            return None
        return Snapshot(message.key, int(version), _DELETED)
    found = _OUR_SPELLING.fullmatch(message.value)
    if found is not None:
        return Snapshot(message.key, int(found[1]), as_go(found[2]))
    try:
        change = MachineChange.model_validate_json(message.value)
    except ValidationError as error:
        log.warning("change_not_read", machine=message.key, reason=explain(error))
        return None
    return Snapshot(message.key, change.version, json_of(change.description))
