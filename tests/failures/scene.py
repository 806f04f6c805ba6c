"""A lab under load, to which something is going to happen; and how it stands when all has come to rest."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from pipeline.broker.protocol import Broker
from pipeline.factory import open_broker, open_store
from pipeline.settings import Connections
from pipeline.store.migrations import migrate
from pipeline.store.protocol import Query
from pipeline.store.sql import SqlStore
from tests.failures.checks import NONE, Allowance, complaints
from tests.failures.evidence import Evidence, gather, rows_of, told_windows, unread
from tests.failures.lab import FLEET_STATS, PRODUCER, SECOND_WRITER, SERVICES, WATCHDOG, WRITER, Lab, until
from tests.failures.people import Operators, Watcher, listed
from tests.failures.producer import acknowledged, let_end
from tests.failures.workload import SILENT, SILENT_POOL, Workload

_ACTED_ON: Final = slice(0, None, 20)
_REST_S: Final = 120.0
_TOLD: Final = 100
_WINDOW: Final = timedelta(seconds=2)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Measured:
    """What it cost."""

    published: int
    on_topic: int
    """More than published: what the producer was not sure of."""
    batches: int
    """That writers finished."""
    processed: int
    """Events in those; more than on the topic: what was read again."""
    replayed: int
    """Of those, had been applied before."""
    windows: int
    """Of the fleet's statistics."""
    actions: int
    """Of operators, acknowledged."""
    connections: int
    """Of the watcher."""
    seconds: float


class Scene:
    """Everything a scenario needs."""

    def __init__(
        self,
        lab: Lab,
        broker: Broker,
        store: SqlStore,
        operators: Operators,
        watcher: Watcher,
        workload: Workload,
    ) -> None:
        self.lab = lab
        self.broker = broker
        self.store = store
        self._operators = operators
        self._watcher = watcher
        self._workload = workload
        self._began = time.monotonic()

    @property
    def published(self) -> int:
        """How many messages the broker has acknowledged."""
        return acknowledged(self.lab.journal)

    async def until_published(self, count: int) -> None:
        """Wait until the producer is so far."""

        async def holds() -> bool:
            self.lab.check_alive()
            return self.published >= count

        await until(holds, f"{count} events are published", tell=self._tell)

    async def until_all_published(self) -> None:
        """Let the load end, and wait until it has; but the watchdog first, for afterwards all machines are silent."""
        await self.until_published(self._workload.messages)
        await until(self._silent_are_down, "the silent machines are marked down", tell=self._tell)
        if self.lab.has_begun(WATCHDOG):
            await self.stop(WATCHDOG)
        let_end(self.lab.journal)
        await until(self._producer_has_ended, "the producer has ended", tell=self._tell)

    async def until_more(self, count: int = 2000) -> None:
        """Wait until so many more have been published; fails when the load is over before."""
        await self.until_published(self.published + count)

    async def until_read(self) -> None:
        """Wait until the writers have acknowledged everything."""

        async def holds() -> bool:
            self.lab.check_alive()
            return await self.unread() == 0

        await until(holds, "the writers have read everything", tell=self._tell)

    async def until_logged(self, name: str, event: str) -> None:
        """Wait until a process has logged this."""

        async def holds() -> bool:
            return bool(self.lab.logged(name, event))

        await until(holds, f"{name} logs {event}", tell=self._tell)

    async def unread(self) -> int:
        """Events that the writers have not acknowledged."""
        return await unread(self.broker)

    def check_under_load(self) -> None:
        """Fail unless there is more to come: what happens afterwards happens under load."""
        assert not self.lab.has_ended(PRODUCER), "the load was over too early"

    async def check_outcome(self, allowance: Allowance = NONE) -> Measured:
        """Let everything come to rest; fail the test if anything is not as it must be then. Tells what it cost."""
        await self._come_to_rest()
        evidence = await self._evidence()
        seconds = time.monotonic() - self._began
        found = await complaints(evidence, allowance)
        measured = self._measured(evidence, seconds)
        log.info("%s", measured)
        assert not found, f"{len(found)} complaints:\n" + "\n".join(found[:_TOLD])
        return measured

    async def _come_to_rest(self) -> None:
        await self.until_all_published()
        await self.until_read()
        await self._operators.stop()
        await until(self._outbox_is_empty, "the outbox is empty", tell=self._tell)
        with contextlib.suppress(AssertionError):  # the checks say better what is missing
            await until(self._watcher_knows, "the watcher knows all", within_s=_REST_S)
            if self.lab.has_begun(FLEET_STATS):
                await until(self._windows_are_told, "the last window is told", within_s=_REST_S)
        self.lab.check_alive()

    async def stop(self, name: str) -> None:
        """Stop a process as an operator would, and wait until it has finished what it had in hand."""
        await asyncio.to_thread(self.lab.stop, name)

    async def _producer_has_ended(self) -> bool:
        return self.lab.has_ended(PRODUCER)

    async def _silent_are_down(self) -> bool:
        found = (await self.store.list(Query(dimensions={"pool": SILENT_POOL}))).machines
        return sum(machine.is_down for machine in found) == len(SILENT)

    async def _outbox_is_empty(self) -> bool:
        return not await self.store.take(limit=1)

    async def _windows_are_told(self) -> bool:
        """All that hold something that happened; everything has come to rest by now."""
        latest = max(row.last_updated for row in (await rows_of(self.store)).values())
        windows = await told_windows(self.broker)
        return bool(windows) and windows[-1].window_end > latest + _WINDOW and windows[-1].changes == 0

    async def _watcher_knows(self) -> bool:
        rows = await rows_of(self.store)
        return self._watcher.versions == {name: row.row_version for name, row in rows.items()}

    async def _evidence(self) -> Evidence:
        return await gather(
            self.store,
            self.broker,
            published=self.published,
            listed=await listed(self.lab.url),
            watched=self._watcher.machines,
            backwards=self._watcher.backwards,
            standing=self._operators.standing,
        )

    def _measured(self, evidence: Evidence, seconds: float) -> Measured:
        lines = [line for name in (WRITER, SECOND_WRITER) for line in self.lab.logged(name, "batch")]
        batches, replayed = ([int(str(line[key])) for line in lines] for key in ("records", "replayed"))
        return Measured(
            published=evidence.published,
            on_topic=len(evidence.events),
            batches=len(batches),
            processed=sum(batches),
            replayed=sum(replayed),
            windows=len(evidence.windows),
            actions=self._operators.acknowledged,
            connections=self._watcher.connections,
            seconds=round(seconds, 1),
        )

    def _tell(self) -> str:
        return "\n".join(self.lab.tails())


@asynccontextmanager
async def under_load(
    connections: Connections, folder: Path, workload: Workload, *services: str
) -> AsyncIterator[Scene]:
    """A lab whose services run, which machines report to, and which people use."""
    await asyncio.to_thread(migrate, connections.database_url)
    lab = Lab(connections, folder, workload)
    operators = Operators(lab.url, workload.ids()[_ACTED_ON])
    watcher = Watcher(lab.url)
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(open_broker(connections))
        store = await stack.enter_async_context(open_store(connections))
        await broker.create_topics()
        stack.enter_context(lab.running(*(services or SERVICES), PRODUCER))
        await stack.enter_async_context(operators.at_work())
        await stack.enter_async_context(watcher.watching())
        yield Scene(lab, broker, store, operators, watcher, workload)
