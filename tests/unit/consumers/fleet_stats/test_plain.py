"""The plain loop: what it tells, what it keeps, and who tells."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from itertools import count, pairwise

import pytest

from consumers.fleet_stats import plain
from consumers.fleet_stats.plain import PlainRunner
from consumers.fleet_stats.settings import LEASE, FleetStatsSettings
from pipeline.broker.protocol import Lag, Outgoing, Received
from pipeline.errors import StoreUnavailable
from pipeline.statistics.ledger import Ledger
from pipeline.statistics.observation import milliseconds, observed
from pipeline.statistics.tally import Rules
from pipeline.store.messages import deletion_message
from pipeline.store.protocol import Checkpoint
from schemas.description import Description
from schemas.fleet_stats import WHOLE_FLEET, FleetStats
from schemas.health import Health
from schemas.topics import FLEET_STATS, MACHINE_CHANGES, dead_letters_of
from tests.unit.consumers.fleet_stats.lab import (
    MINUTE,
    NOON,
    SOON,
    Fate,
    Killed,
    Lab,
    MortalBroker,
    MortalStore,
    change,
    until,
)

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize("is_before", [True, False])
async def test_a_crash_before_or_after_any_call_neither_loses_nor_doubles_a_window(is_before: bool) -> None:
    """Any call that leaves a trace: a saving, an acknowledgement, a publication. Then another goes on."""
    for number in count():
        fate = Fate(before=number) if is_before else Fate(after=number)

        messages, undisturbed = await story(fate)

        assert set(messages) == set(undisturbed)
        for place, found in messages.items():
            assert {each.model_dump_json() for each in found} == {undisturbed[place].model_dump_json()}, (
                number
            )
        if not fate.is_dead:
            break
    assert {"save", "acknowledge", "publish"} == set(fate.calls)
    assert number > 20


Places = dict[tuple[str, datetime], list[FleetStats]]


async def story(fate: Fate) -> tuple[Places, dict[tuple[str, datetime], FleetStats]]:
    """All that is told of six minutes in which something happens each half minute; and what should be."""
    lab = Lab()
    async with replaced_when_killed(lab, fate):
        await lab.until_begun()
        for number in range(1, 9):
            fault = "hot" if number % 3 == 0 else ""
            news = [change("a", number, recovering=fault), change(f"b{number}", 1)]
            gone = [deletion_message(f"b{number - 2}", 2)] if number % 4 == 0 else []
            await lab.publish(*news, *gone, after=timedelta(seconds=30))
            await lab.until_read()
            lab.clock.advance(timedelta(seconds=3))
        lab.clock.advance(3 * MINUTE)
        fleet = await lab.fleet(6)
    starts = sorted({each.window_start for each in fleet})
    assert all(later - earlier == MINUTE for earlier, later in pairwise(starts))
    messages: Places = defaultdict(list)
    for each in await lab.told():
        messages[each.pool, each.window_start].append(each)
    return messages, await undisturbed(lab, starts[-1] + MINUTE)


async def undisturbed(lab: Lab, end: datetime) -> dict[tuple[str, datetime], FleetStats]:
    """What a reader of the whole topic comes to."""
    ledger = Ledger.beginning(lab.settings.rules, at=milliseconds(NOON))
    for message in await lab.broker.fetch(MACHINE_CHANGES, limit=10_000):
        at = milliseconds(message.published_at)
        ledger.apply(observed(message.key, message.value, dict(message.headers), at))
    due = ledger.due(milliseconds(end))
    return {(each.pool, each.window_start): each for _, window in due for each in window}


@contextlib.asynccontextmanager
async def replaced_when_killed(lab: Lab, fate: Fate) -> AsyncIterator[None]:
    """A runner that meets its fate; then, once its lease has run out, another."""
    stop = asyncio.Event()

    async def lives() -> None:
        store, broker = MortalStore(lab, fate), MortalBroker(lab, fate)
        try:
            await PlainRunner(store, broker, lab.clock, lab.settings).run(stop)
        except Killed:
            lab.store._leases.clear()
            await PlainRunner(lab.store, lab.broker, lab.clock, lab.settings).run(stop)

    task = asyncio.create_task(lives())
    try:
        yield
    finally:
        stop.set()
        await task


class AwayStore(MortalStore):
    """Cannot save until it has been asked so many times, and counts."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, Fate())
        self.refusals = 0
        self.renewals = 0
        self.savings = 0
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def acquire(self, name: str, owner: str, *, seconds: float) -> bool:
        """See the protocol."""
        self.renewals += 1
        return await super().acquire(name, owner, seconds=seconds)

    async def save_checkpoint(self, name: str, checkpoint: Checkpoint, *, owner: str) -> bool:
        """See the protocol."""
        await self.is_open.wait()
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("the database is away")
        self.savings += 1
        return await super().save_checkpoint(name, checkpoint, owner=owner)

    async def until_renewed(self, times: int = 3) -> None:
        """Wait until the lease has been renewed so many times more."""
        wanted = self.renewals + times

        async def is_renewed() -> bool:
            return self.renewals >= wanted

        await until(is_renewed)


def restless() -> FleetStatsSettings:
    """Renews all the time."""
    return FleetStatsSettings(look_every=SOON, max_wait=SOON, lease=timedelta(milliseconds=50))


async def test_while_saving_takes_long_the_lease_is_renewed() -> None:
    lab = Lab(settings=restless())
    store = AwayStore(lab)
    async with lab.running(store):
        await lab.until_begun()
        store.is_open.clear()
        await lab.publish(change("a", 1))

        await store.until_renewed()
        store.is_open.set()
        await lab.until_read()


async def test_after_an_outage_of_the_database_all_goes_on_at_once() -> None:
    lab = Lab(settings=restless())
    store = AwayStore(lab)
    async with lab.running(store):
        await lab.until_begun()
        store.refusals = 7  # a few seconds, by how retries wait
        await lab.publish(change("a", 1))
        await lab.until_read()
        await lab.publish(change("b", 1), after=MINUTE / 2)
        await lab.until_read()
        lab.clock.advance(MINUTE)
        (stats, *_) = await lab.fleet(1)

    assert (store.refusals, stats.machines) == (0, 2)


async def test_a_large_ledger_is_saved_only_when_a_window_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "_BYTES_PER_S", 1)
    lab = Lab(settings=restless())
    store = AwayStore(lab)
    async with lab.running(store):
        await lab.until_begun()
        saved = store.savings
        await lab.publish(change("a", 1))
        await store.until_renewed(5)
        assert store.savings == saved

        lab.clock.advance(2 * MINUTE)
        (stats, *_) = await lab.fleet(1)
        await store.until_renewed(5)

    assert stats.machines == 1
    assert store.savings <= saved + 3  # before the window, before the next one that may be due, at the end


async def test_with_too_much_in_hand_it_is_saved_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "_BYTES_PER_S", 1)
    monkeypatch.setattr(plain, "_IN_HAND", 10)
    lab = Lab(settings=restless())
    async with lab.running():
        await lab.until_begun()
        for number in range(5):
            await lab.publish(*[change(f"m{machine}", number + 1) for machine in range(10)])
            await lab.until_read()


def recovering(before: Description) -> Description:
    """Too hot."""
    return before.model_copy(update={"recovering": "too hot"})


async def test_machines_that_the_topic_knows_no_more_are_taken_from_the_database() -> None:
    lab = Lab()
    for machine_id in ("old", "fresh"):
        await lab.store.update(machine_id, recovering, now=NOON, create=True)
    lab.clock.advance(timedelta(days=30))
    async with lab.running():
        await lab.until_begun()
        await lab.publish(change("fresh", 1, is_quarantined=True))  # known already
        await lab.until_read()
        lab.clock.advance(2 * MINUTE)
        (first, *_) = await lab.fleet(1)

    assert (first.machines, first.changes) == (2, 0)
    assert first.machines_by_state[Health.RECOVERING] == 2
    assert first.machines_by_state[Health.QUARANTINED] == 0
    assert first.seconds_by_state[Health.RECOVERING] == 120


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


class DrowsyBroker(MortalBroker):
    """Its process falls asleep once it knows how far it has read."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, Fate())
        self.is_asleep = asyncio.Event()
        self.wakes = asyncio.Event()

    async def lag(self, topic: str, *, group: str) -> Sequence[Lag]:
        """See the protocol."""
        found = await super().lag(topic, group=group)
        self.is_asleep.set()
        await self.wakes.wait()
        return found


class DrowsyStore(MortalStore):
    """The same process: asleep, it renews nothing, and awake it has not yet come to that."""

    def __init__(self, lab: Lab, is_asleep: asyncio.Event) -> None:
        super().__init__(lab, Fate())
        self._is_asleep = is_asleep

    async def acquire(self, name: str, owner: str, *, seconds: float) -> bool:
        """See the protocol."""
        if self._is_asleep.is_set():
            await asyncio.Event().wait()
        return await super().acquire(name, owner, seconds=seconds)


async def test_who_falls_asleep_just_before_it_tells_looks_again_when_it_wakes() -> None:
    lab = Lab()
    broker = DrowsyBroker(lab)
    async with lab.running(DrowsyStore(lab, broker.is_asleep), broker) as sleeper:
        await lab.publish(change("a", 1))
        await lab.until_read()
        lab.clock.advance(2 * MINUTE)
        await broker.is_asleep.wait()
        saved = await lab.store.checkpoint(LEASE)
        assert saved is not None
        taken = Checkpoint(saved.revision + 1, saved.content)
        assert await lab.store.save_checkpoint(LEASE, taken, owner="other")
        held = lab.store._leases.pop(LEASE)

        broker.wakes.set()

        async def has_given_up() -> bool:
            return bool(await lab.told()) or not broker._subscriptions

        await until(has_given_up)
        assert await lab.told() == []
        assert held[0] != "other"
        sleeper.cancel()


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


async def test_a_day_after_its_end_a_machine_is_forgotten_and_its_empty_pool_told_no_more() -> None:
    settings = FleetStatsSettings(Rules(window=timedelta(hours=1)), look_every=SOON, max_wait=SOON)
    lab = Lab(settings=settings)
    async with lab.running():
        await lab.until_begun()
        await lab.publish(change("a", 1, dimensions={"id": ["a"], "pool": ["Old"]}), change("b", 1))
        await lab.publish(deletion_message("a", 2))
        await lab.until_read()
        lab.clock.advance(timedelta(hours=30))
        await lab.fleet(29)

        async def is_forgotten() -> bool:
            return b'"b":' in (ledger := zlib.decompress(await lab.saved())) and b'"a":' not in ledger

        await until(is_forgotten)

    old = [each for each in await lab.told() if each.pool == "Old"]
    assert {each.machines for each in old} == {0}
    assert max(each.window_start for each in old) == NOON + timedelta(days=1)
