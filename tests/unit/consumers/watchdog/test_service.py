"""The watchdog marks what is silent, once, with since when, and forgets old history."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from consumers.watchdog.policy_source import PolicySource
from consumers.watchdog.service import Watchdog
from consumers.watchdog.settings import WatchdogSettings
from pipeline.clock import ManualClock
from pipeline.errors import StoreUnavailable
from pipeline.processor.operators import set_power_cycle_state
from pipeline.processor.process import process
from pipeline.store.memory import MemoryStore
from schemas.changes import ChangeKind, MachineChange
from schemas.description import Description, PowerCycleState
from schemas.event import Event

START = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
SETTINGS = WatchdogSettings(period=timedelta(seconds=30), check_every=timedelta(milliseconds=1))


class Lab:
    """A store that a writer keeps up to date, and a watchdog."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.store = MemoryStore(clock=self.clock)
        self.watchdog = Watchdog(self.store, self.clock, SETTINGS)

    async def report(self, machine: str) -> None:
        event = Event.model_validate(
            {"type": "raw_state", "standalone": {"cores": 4}, "host": {"name": machine}}
        )
        await self.store.update_many(
            {machine: [partial(_apply, event, self.clock.now())]}, now=self.clock.now()
        )

    async def pass_time(self, seconds: int, *, writing: bool = True) -> None:
        for _ in range(seconds):
            self.clock.advance(timedelta(seconds=1))
            if writing:
                await self.writer_works()

    async def writer_works(self) -> None:
        now = self.clock.now()
        await self.store.record("writer", {"0": now}, now=now)


def _apply(event: Event, now: datetime, before: Description) -> Description:
    return process(before, event, now=now).after


@pytest.fixture
async def lab() -> Lab:
    lab = Lab()
    await lab.writer_works()
    await lab.report("m")
    return lab


async def test_a_machine_silent_for_three_periods_is_marked_down_since_its_last_report(lab: Lab) -> None:
    await lab.pass_time(90)
    assert await lab.watchdog.look() == []

    await lab.pass_time(1)
    assert await lab.watchdog.look() == ["m"]

    machine = await lab.store.get("m")
    assert machine.down_since == START
    assert not machine.is_available


async def test_a_mark_is_made_once_and_told_in_history_and_as_a_change(lab: Lab) -> None:
    await lab.pass_time(91)
    await lab.watchdog.look()
    await lab.pass_time(60)

    assert await lab.watchdog.look() == []
    newest = (await lab.store.history("m"))[0]
    assert (newest.kind, newest.who, newest.after) == (
        ChangeKind.DOWN,
        "labkeeper",
        "silent since 2026-01-02T12:00:00Z",
    )
    (row,) = await lab.store.take(limit=10)
    change = MachineChange.model_validate_json(row.message.value)
    assert change.description == await lab.store.get("m")
    assert change.kinds == [ChangeKind.DOWN]


async def test_the_next_event_clears_the_mark(lab: Lab) -> None:
    await lab.pass_time(91)
    await lab.watchdog.look()

    await lab.report("m")

    assert not (await lab.store.get("m")).is_down
    assert [entry.kind for entry in await lab.store.history("m")][:2] == [ChangeKind.DOWN, ChangeKind.DOWN]


async def test_while_the_writer_is_away_nobody_is_silent(lab: Lab) -> None:
    await lab.pass_time(3600, writing=False)

    assert await lab.watchdog.look() == []


async def test_after_the_writer_was_away_machines_have_their_three_periods_anew(lab: Lab) -> None:
    await lab.pass_time(3600, writing=False)
    await lab.pass_time(90)
    assert await lab.watchdog.look() == []

    await lab.pass_time(2)
    assert await lab.watchdog.look() == ["m"]


async def test_a_writer_that_is_behind_makes_nobody_silent(lab: Lab) -> None:
    for _ in range(3600):
        lab.clock.advance(timedelta(seconds=1))
        await lab.store.record("writer", {"0": START + timedelta(seconds=5)}, now=lab.clock.now())

    assert await lab.watchdog.look() == []


async def test_a_machine_that_speaks_while_we_look_is_not_marked(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.pass_time(91)
    update = lab.store.update

    async def speaks_first(*arguments: object, **options: object) -> object:
        await lab.report("m")
        return await update(*arguments, **options)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(lab.store, "update", speaks_first)

    assert await lab.watchdog.look() == []
    assert not (await lab.store.get("m")).is_down


async def test_old_history_is_forgotten(lab: Lab) -> None:
    assert await lab.store.history("m")
    lab.clock.advance(timedelta(days=91))

    await lab.watchdog.look()

    assert await lab.store.history("m") == []


async def test_only_one_watchdog_works_and_another_takes_over_when_it_stops(lab: Lab) -> None:
    await lab.pass_time(91)
    await lab.store.acquire("watchdog", "another", seconds=3600)
    await run_for_a_moment(lab.watchdog)
    assert not (await lab.store.get("m")).is_down

    await lab.store.release("watchdog", "another")
    await run_for_a_moment(lab.watchdog)

    assert (await lab.store.get("m")).is_down
    assert await lab.store.acquire("watchdog", "another", seconds=1)


async def test_a_database_that_is_away_does_not_end_the_watchdog(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.pass_time(91)
    progress, failures = lab.store.progress, [2]

    async def sometimes() -> object:
        if failures[0]:
            failures[0] -= 1
            raise StoreUnavailable("the database is away")
        return await progress()

    monkeypatch.setattr(lab.store, "progress", sometimes)
    await run_for_a_moment(lab.watchdog)

    assert (await lab.store.get("m")).is_down


async def run_for_a_moment(watchdog: Watchdog) -> None:
    """Long enough for several rounds of a millisecond each."""
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, stop.set)
    await asyncio.wait_for(watchdog.run(stop), 10)


async def test_it_heals_only_while_silence_means_something_and_not_in_each_look(tmp_path: Path) -> None:
    policy = tmp_path / "healing.json5"
    policy.write_text("{pools: {'*': {after: '5m'}}}")
    lab = Lab()
    lab.watchdog = Watchdog(lab.store, lab.clock, SETTINGS, PolicySource(policy))
    await lab.writer_works()
    await lab.report("m")
    await lab.store.update("m", partial(set_power_cycle_state, state=PowerCycleState.AVAILABLE), now=START)
    await lab.pass_time(400)
    await lab.watchdog.look()
    await lab.pass_time(16, writing=False)

    await lab.watchdog.heal()
    assert await lab.store.power_commands() == []
    await lab.writer_works()
    await lab.watchdog.heal()
    (record,) = await lab.store.power_commands()
    assert record.command.who == "labkeeper"

    await lab.report("m")
    await lab.watchdog.heal()
    assert (await lab.store.get("m")).healing.startswith("cycling"), "the last round was a moment ago"


async def test_a_clock_that_is_put_back_stops_no_healing(tmp_path: Path) -> None:
    lab = Lab()
    file = tmp_path / "healing.json5"
    file.write_text("{pools: {'*': {after: '10m'}}}")
    watchdog = Watchdog(lab.store, lab.clock, SETTINGS, PolicySource(file))
    lab.clock.advance(timedelta(days=1))  # a host begins with a wrong time, and then is told the right one
    await lab.writer_works()
    await lab.report("m")
    await watchdog.look()
    await watchdog.heal()
    lab.clock.advance(timedelta(days=-1))
    await lab.store.update("m", partial(_silent, lab.clock.now() - timedelta(hours=1)), now=lab.clock.now())
    lab.clock.advance(timedelta(seconds=1))
    await lab.writer_works()
    await watchdog.heal()
    assert (await lab.store.get("m")).healing


def _silent(since: datetime, machine: Description) -> Description:
    return machine.model_copy(update={"down_since": since})
