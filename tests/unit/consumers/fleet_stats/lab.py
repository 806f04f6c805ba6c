"""A plain loop between a store and a broker in memory, which may die at any call that leaves a trace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from consumers.fleet_stats.plain import PlainRunner
from consumers.fleet_stats.settings import GROUP, LEASE, FleetStatsSettings
from pipeline.broker.memory import MemoryBroker
from pipeline.broker.protocol import Batch, Lag, Outgoing, Subscription
from pipeline.clock import ManualClock
from pipeline.store.memory import MemoryStore
from pipeline.store.messages import change_message
from pipeline.store.protocol import Checkpoint, Updated
from schemas.changes import ChangeKind
from schemas.description import Description
from schemas.fleet_stats import WHOLE_FLEET, FleetStats
from schemas.topics import FLEET_STATS, MACHINE_CHANGES

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SOON = timedelta(milliseconds=2)
DEADLINE_S = 60.0

Result = TypeVar("Result")


def change(machine_id: str, version: int, **fields: object) -> Outgoing:
    """A machine's new state."""
    dimensions = {"id": [machine_id], "pool": ["Lab"]}
    machine = Description.new(machine_id, now=NOON).model_copy(
        update={"dimensions": dimensions, "row_version": version, **fields}
    )
    return change_message(Updated(machine_id, machine, [ChangeKind.HEARTBEAT]), "labkeeper")


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for it, but not for ever."""
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():
            await asyncio.sleep(0.002)


@dataclass
class Lab:
    """Store and broker in memory, under one clock."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(NOON))
    settings: FleetStatsSettings = field(
        default_factory=lambda: FleetStatsSettings(look_every=SOON, max_wait=SOON, lease=timedelta(seconds=2))
    )

    def __post_init__(self) -> None:
        self.store = MemoryStore(clock=self.clock)
        self.broker = MemoryBroker(clock=self.clock)

    @contextlib.asynccontextmanager
    async def running(
        self, store: MemoryStore | None = None, broker: MemoryBroker | None = None
    ) -> AsyncIterator[asyncio.Task[None]]:
        """A runner, stopped in order at the end unless it was cancelled before."""
        stop = asyncio.Event()
        runner = PlainRunner(store or self.store, broker or self.broker, self.clock, self.settings)
        task = asyncio.create_task(runner.run(stop))
        try:
            yield task
        finally:
            stop.set()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def publish(self, *messages: Outgoing, after: timedelta = timedelta(0)) -> None:
        """Publish so much later."""
        self.clock.advance(after)
        await self.broker.publish(messages)

    async def told(self) -> list[FleetStats]:
        """All that lies in `fleet.stats`."""
        messages = await self.broker.fetch(FLEET_STATS, limit=10_000)
        return [FleetStats.model_validate_json(message.value) for message in messages]

    async def fleet(self, windows: int) -> list[FleetStats]:
        """So many windows of the whole fleet, once they are told."""

        async def found() -> list[FleetStats]:
            return [each for each in await self.told() if each.pool == WHOLE_FLEET]

        async def is_there() -> bool:
            return len({each.window_start for each in await found()}) >= windows

        await until(is_there)
        return await found()

    async def saved(self) -> bytes:
        """The ledger's latest checkpoint."""
        saved = await self.store.checkpoint(LEASE)
        return b"" if saved is None else saved.content

    async def until_begun(self) -> None:
        """Wait until the state has been saved for the first time."""

        async def has_begun() -> bool:
            return bool(await self.saved())

        await until(has_begun)

    async def until_read(self) -> None:
        """Wait until everything published is acknowledged."""

        async def is_read() -> bool:
            return not any(lag.unread for lag in await self.broker.lag(MACHINE_CHANGES, group=GROUP))

        await until(is_read)


class Killed(Exception):
    """The process is no more."""


class Fate:
    """Counts the calls that leave a trace, and ends the process before or after one of them."""

    def __init__(self, before: int | None = None, after: int | None = None) -> None:
        self._before = before
        self._after = after
        self.calls: list[str] = []
        self.is_dead = False

    async def meet(self, name: str, call: Callable[[], Awaitable[Result]]) -> Result:
        """Make a call that leaves a trace, or die."""
        self.check()
        number = len(self.calls)
        self.calls.append(name)
        self._die_if(number == self._before)
        result = await call()
        self._die_if(number == self._after)
        return result

    def check(self) -> None:
        """The dead do nothing any more, nor in their `finally`."""
        if self.is_dead:
            raise Killed

    def _die_if(self, is_time: bool) -> None:
        self.is_dead |= is_time
        self.check()


class MortalStore(MemoryStore):
    """The lab's store, as one process reaches it."""

    def __init__(self, lab: Lab, fate: Fate) -> None:
        super().__init__(clock=lab.clock)
        self.__dict__.update(lab.store.__dict__)
        self._fate = fate

    async def save_checkpoint(self, name: str, checkpoint: Checkpoint, *, owner: str) -> bool:
        """See the protocol."""
        save = super().save_checkpoint
        return await self._fate.meet("save", lambda: save(name, checkpoint, owner=owner))

    async def acquire(self, name: str, owner: str, *, seconds: float) -> bool:
        """See the protocol."""
        self._fate.check()
        return await super().acquire(name, owner, seconds=seconds)

    async def release(self, name: str, owner: str) -> None:
        """See the protocol."""
        self._fate.check()
        await super().release(name, owner)


class MortalReader:
    """A subscription of one process."""

    def __init__(self, reader: Subscription, fate: Fate) -> None:
        self._reader = reader
        self._fate = fate

    def __aiter__(self) -> AsyncIterator[Batch]:
        """See the protocol."""
        return aiter(self._reader)

    async def acknowledge(self, batch: Batch) -> None:
        """See the protocol."""
        await self._fate.meet("acknowledge", lambda: self._reader.acknowledge(batch))


class MortalBroker(MemoryBroker):
    """The lab's broker, as one process reaches it."""

    def __init__(self, lab: Lab, fate: Fate) -> None:
        super().__init__(clock=lab.clock)
        self.__dict__.update(lab.broker.__dict__)
        self._fate = fate

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """See the protocol."""
        publish = super().publish
        await self._fate.meet("publish", lambda: publish(messages))

    async def lag(self, topic: str, *, group: str) -> Sequence[Lag]:
        """See the protocol."""
        self._fate.check()
        return await super().lag(topic, group=group)

    def subscribe(self, topic: str, **options: Any) -> contextlib.AbstractAsyncContextManager[Subscription]:
        """See the protocol."""
        return self._mortal(super().subscribe(topic, **options))

    @contextlib.asynccontextmanager
    async def _mortal(
        self, subscription: contextlib.AbstractAsyncContextManager[Subscription]
    ) -> AsyncIterator[Subscription]:
        async with subscription as reader:
            yield MortalReader(reader, self._fate)
