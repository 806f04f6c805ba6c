"""The plain loop: what it tells, what it keeps, and who tells."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from consumers.fleet_stats.plain import PlainRunner
from consumers.fleet_stats.settings import GROUP, LEASE, FleetStatsSettings
from pipeline.broker.memory import MemoryBroker
from pipeline.broker.protocol import Outgoing, Received
from pipeline.clock import ManualClock
from pipeline.store.memory import MemoryStore
from pipeline.store.messages import change_message, deletion_message
from pipeline.store.protocol import Checkpoint, Updated
from schemas.changes import ChangeKind
from schemas.description import Description
from schemas.fleet_stats import WHOLE_FLEET, FleetStats
from schemas.health import Health
from schemas.topics import FLEET_STATS, MACHINE_CHANGES, dead_letters_of

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SOON = timedelta(milliseconds=2)
DEADLINE_S = 10.0


def change(machine_id: str, version: int, **fields: object) -> Outgoing:
    """A machine's new state."""
    dimensions = {"id": [machine_id], "pool": ["Lab"]}
    machine = Description.new(machine_id, now=NOON).model_copy(
        update={"dimensions": dimensions, "row_version": version, **fields}
    )
    return change_message(Updated(machine_id, machine, [ChangeKind.HEARTBEAT]), "labkeeper")


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
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """A runner, stopped in order at the end unless it was cancelled before."""
        stop = asyncio.Event()
        runner = PlainRunner(self.store, self.broker, self.clock, self.settings)
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
        async with asyncio.timeout(DEADLINE_S):
            while len(found := [each for each in await self.told() if each.pool == WHOLE_FLEET]) < windows:
                await asyncio.sleep(0.005)
        return found

    async def until_begun(self) -> None:
        """Wait until the state has been saved for the first time."""
        async with asyncio.timeout(DEADLINE_S):
            while not ((saved := await self.store.checkpoint(LEASE)) and saved.content):
                await asyncio.sleep(0.005)

    async def until_read(self) -> None:
        """Wait until everything published is acknowledged."""
        async with asyncio.timeout(DEADLINE_S):
            while any(lag.unread for lag in await self.broker.lag(MACHINE_CHANGES, group=GROUP)):
                await asyncio.sleep(0.005)


async def test_a_window_is_told_once_its_end_and_the_grace_have_passed() -> None:
    lab = Lab()
    async with lab.running():
        await lab.publish(change("a", 1), change("b", 1, recovering="too hot"))
        await lab.until_read()
        lab.clock.advance(MINUTE + lab.settings.grace - timedelta(milliseconds=1))
        await asyncio.sleep(0.05)
        assert await lab.told() == []

        lab.clock.advance(timedelta(milliseconds=1))
        (stats,) = await lab.fleet(1)

    assert (stats.window_start, stats.window_end) == (NOON, NOON + MINUTE)
    assert (stats.machines, stats.availability_percent, stats.changes) == (2, 50, 2)
    assert {each.pool for each in await lab.told()} == {"Lab", WHOLE_FLEET}


async def test_the_key_is_the_pool_and_the_id_names_the_window() -> None:
    lab = Lab()
    async with lab.running():
        await lab.publish(change("a", 1))
        await lab.until_read()
        lab.clock.advance(2 * MINUTE)
        await lab.fleet(1)

    messages = list(await lab.broker.fetch(FLEET_STATS))
    assert {(message.key, message.headers["ce_id"]) for message in messages} == {
        ("*", "*:2026-03-01T12:00:00Z"),
        ("Lab", "Lab:2026-03-01T12:00:00Z"),
    }


async def test_a_quiet_lab_has_windows_too() -> None:
    lab = Lab()
    async with lab.running():
        await lab.publish(change("a", 1))
        await lab.until_read()
        lab.clock.advance(10 * MINUTE)

        windows = await lab.fleet(9)

    assert [each.changes for each in windows] == [1, *[0] * 8]
    assert {each.availability_percent for each in windows} == {100}


async def test_what_was_published_before_the_first_start_counts_for_the_state_only() -> None:
    lab = Lab()
    await lab.publish(change("a", 1, is_quarantined=True))
    lab.clock.advance(timedelta(days=3))
    async with lab.running():
        await lab.until_read()
        lab.clock.advance(2 * MINUTE)
        (stats, *_) = await lab.fleet(1)

    assert stats.window_start == NOON + timedelta(days=3)
    assert (stats.changes, stats.machines_by_state[Health.QUARANTINED]) == (0, 1)


async def test_an_outage_of_ours_leaves_no_hole() -> None:
    lab = Lab()
    async with lab.running():
        await lab.publish(change("a", 1))
        await lab.until_read()
        await lab.publish(change("a", 2), after=MINUTE)
        await lab.until_read()
    await lab.publish(change("a", 3, recovering="too hot"), after=MINUTE)
    await lab.publish(change("a", 4), after=MINUTE)
    lab.clock.advance(2 * MINUTE)

    async with lab.running():
        windows = await lab.fleet(4)

    starts = [each.window_start for each in windows]
    assert starts == [NOON + number * MINUTE for number in range(4)]
    assert [each.changes for each in windows] == [1, 1, 1, 1]
    assert windows[3].recoveries == 1


@pytest.mark.parametrize("at", range(8))
async def test_a_crash_anywhere_neither_loses_nor_doubles_a_window(at: int) -> None:
    """Cancelled, without any of what a stop in order does, before the `at`-th step; then another goes on."""
    undisturbed, disturbed = await story(crash_before=None), await story(crash_before=at)

    assert disturbed == undisturbed


async def story(*, crash_before: int | None) -> dict[tuple[str, datetime], FleetStats]:
    """A story of eight steps, half a minute each, as it is told in the end. Later messages replace earlier ones."""
    lab = Lab()
    steps = [change("a", n, recovering="hot" if n % 3 == 0 else "") for n in range(1, 9)]
    async with contextlib.AsyncExitStack() as stack:
        task = await stack.enter_async_context(lab.running())
        await lab.until_begun()
        for number, step in enumerate(steps):
            await lab.publish(step, change(f"b{number}", 1), after=timedelta(seconds=30))
            if number == crash_before:
                task.cancel()
                await asyncio.wait({task})
                lab.clock.advance(timedelta(seconds=3))  # its lease runs out
                await stack.enter_async_context(lab.running())
            else:
                await lab.until_read()
                lab.clock.advance(timedelta(seconds=3))
        lab.clock.advance(3 * MINUTE)
        await lab.until_read()
        await lab.fleet(6)
    return {
        (each.pool, each.window_start): each
        for each in await lab.told()
        if each.window_end <= NOON + 6 * MINUTE
    }


async def test_one_tells_and_the_other_stands_by() -> None:
    lab = Lab()
    async with lab.running(), lab.running():
        await lab.publish(change("a", 1))
        await lab.until_read()
        lab.clock.advance(2 * MINUTE)
        await lab.fleet(1)

    assert len(await lab.told()) == 2  # the pool and the fleet, once


async def test_who_was_overtaken_in_its_sleep_tells_nothing() -> None:
    lab = Lab()
    async with lab.running() as sleeper:
        await lab.publish(change("a", 1))
        await lab.until_read()
        # another takes over, as if the sleeper's lease had run out
        saved = await lab.store.checkpoint(LEASE)
        assert saved is not None
        while not await lab.store.save_checkpoint(LEASE, Checkpoint(saved.revision + 1, b""), owner="other"):
            saved = await lab.store.checkpoint(LEASE)
            assert saved is not None
        await lab.store.release(LEASE, lab.store._leases[LEASE][0])
        await lab.store.acquire(LEASE, "other", seconds=3600)
        lab.clock.advance(2 * MINUTE)
        await asyncio.sleep(0.1)

        assert await lab.told() == []
        assert not sleeper.done()


async def test_what_is_no_change_is_parked_and_the_rest_goes_on() -> None:
    lab = Lab()
    async with lab.running():
        await lab.publish(
            Outgoing(MACHINE_CHANGES, "a", b"{"), Outgoing(MACHINE_CHANGES, "a", b""), change("a", 1)
        )
        await lab.until_read()
        dead = await lab.broker.fetch(dead_letters_of(MACHINE_CHANGES))

    assert [reason(message)[:20] for message in dead] == ["body: Invalid JSON: ", "body: a deletion wit"]


def reason(message: Received) -> str:
    """Why it was parked."""
    return message.headers["dead_reason"]


async def test_a_deleted_machine_is_gone_from_the_next_window() -> None:
    lab = Lab()
    async with lab.running():
        await lab.publish(change("a", 1), change("b", 1))
        await lab.publish(deletion_message("a", 2), after=timedelta(seconds=30))
        await lab.until_read()
        lab.clock.advance(2 * MINUTE)
        (first, *_) = await lab.fleet(1)

    assert first.machines == 1
    assert first.seconds_by_state[Health.AVAILABLE] == 90
