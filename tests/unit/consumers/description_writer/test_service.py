"""The writer: events in, rows kept, changes out, bad messages parked, nothing lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import Counter

from consumers.description_writer.service import DescriptionWriter
from consumers.description_writer.settings import GROUP, WriterSettings
from pipeline.broker.deadletter import RejectLimit
from pipeline.broker.memory import MemoryBroker
from pipeline.broker.protocol import Lag, Outgoing, Received, Subscription
from pipeline.clock import ManualClock
from pipeline.errors import BrokerUnavailable, Rejected, StoreUnavailable, TooManyRejects
from pipeline.metrics import (
    BATCH_RECORDS,
    CHANGES_SENT,
    CONSUMER_LAG,
    CONSUMER_LAG_SECONDS,
    DEAD_LETTERS,
    EVENTS_PROCESSED,
    EVENTS_REPLAYED,
    EVENTS_UNKNOWN_TYPE,
)
from pipeline.store.memory import MemoryStore
from pipeline.store.protocol import Change, Updated
from schemas import envelope
from schemas.changes import ChangeKind, MachineChange
from schemas.description import Description
from schemas.topics import MACHINE_CHANGES, MACHINE_EVENTS, dead_letters_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DEAD = dead_letters_of(MACHINE_EVENTS)
START = "2026-01-01T00:00:00Z"


def event(machine: str, *, sequence: int | None = None, cores: int = 4, **fields: Any) -> bytes:
    host = {"name": machine, "version": "v1", "start_time": START}
    document = {"type": "raw_state", "standalone": {"cores": cores}, "host": host, **fields}
    return json.dumps(document if sequence is None else {**document, "sequence": sequence}).encode()


class Lab:
    """A writer with an in-memory store and broker."""

    def __init__(self, store: MemoryStore | None = None, settings: WriterSettings | None = None) -> None:
        self.clock = ManualClock(NOW)
        self.store = store or MemoryStore(clock=self.clock)
        self.broker = MemoryBroker(clock=self.clock)
        self.settings = settings or WriterSettings(
            max_wait=timedelta(0), progress_every=timedelta(milliseconds=10)
        )

    @property
    def writer(self) -> DescriptionWriter:
        return DescriptionWriter(self.store, self.broker, self.clock, self.settings)

    async def publish(self, *values: bytes, key: str = "m") -> None:
        await self.broker.publish([Outgoing(MACHINE_EVENTS, key, value) for value in values])

    async def until_read(self) -> None:
        async with asyncio.timeout(60):
            while any(lag.unread for lag in await self.broker.lag(MACHINE_EVENTS, group=GROUP)):
                await asyncio.sleep(0)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[asyncio.Task[None]]:
        """A running writer, stopped and drained at the end."""
        stop = asyncio.Event()
        running = asyncio.create_task(self.writer.run(stop))
        try:
            yield running
        finally:
            stop.set()
            await asyncio.wait_for(running, 10)

    async def write(self, *values: bytes) -> None:
        """Publish and let a writer work until all is acknowledged."""
        await self.publish(*values)
        async with self.writing():
            await self.until_read()

    async def changes(self) -> list[MachineChange]:
        messages = await self.broker.fetch(MACHINE_CHANGES)
        return [MachineChange.model_validate_json(message.value) for message in messages]

    async def dead(self) -> Sequence[Received]:
        return await self.broker.fetch(DEAD)


async def test_an_event_becomes_a_row_and_a_change() -> None:
    lab = Lab()

    await lab.write(event("m"))

    row = await lab.store.get("m")
    assert row.dimension("cores") == ["4"]
    (change,) = await lab.changes()
    assert (change.id, change.version, change.description) == ("m", row.row_version, row)
    assert ChangeKind.CREATED in change.kinds


async def test_the_time_of_an_event_is_when_the_broker_took_it() -> None:
    lab = Lab()
    await lab.publish(event("m"))
    lab.clock.advance(timedelta(hours=1))

    async with lab.writing():
        await lab.until_read()

    assert (await lab.store.get("m")).last_updated == NOW


async def test_a_replay_is_not_applied_but_told_again() -> None:
    lab = Lab()
    await lab.write(event("m", sequence=5))
    before = await lab.store.get("m")
    lab.clock.advance(timedelta(seconds=1))

    await lab.write(event("m", sequence=5, cores=8), event("m", sequence=4, cores=16))

    assert await lab.store.get("m") == before
    assert [change.description for change in await lab.changes()] == [before, before]


async def test_all_events_of_a_machine_in_a_batch_make_one_change() -> None:
    lab = Lab()

    await lab.write(event("m", sequence=0), event("m", sequence=1, cores=8), event("m", sequence=2, cores=16))

    (change,) = await lab.changes()
    assert change.description.dimension("cores") == ["16"]


async def test_an_unknown_type_of_event_makes_no_machine() -> None:
    lab = Lab()

    await lab.write(event("m", type="from_the_future"))

    assert (await lab.store.list()).machines == []
    assert await lab.changes() == []
    assert await lab.dead() == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{nope", "Invalid JSON"),
        (b"", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b'{"type": "raw_state"}', "host.name: missing"),
        (event("../x"), "host.name: a machine id has"),
        (event("m", android={"uptime": "5"}), "android.uptime"),
        (event("m", ios={"version": "\x00"}), "ios.version: text must not contain NUL"),
        (event("m", android={"getprop": "x" * 10_000_000}), "body: larger than 1048576 bytes"),
    ],
    ids=["malformed", "empty", "no text", "no name", "path as name", "wrong type", "NUL", "10 MB"],
)
async def test_a_bad_message_is_parked_with_its_reason_and_its_neighbours_live(
    value: bytes, reason: str
) -> None:
    lab = Lab()

    await lab.write(event("before"), value, event("after"))

    assert [machine.dimension("id") for machine in (await lab.store.list()).machines] == [
        ["after"],
        ["before"],
    ]
    (dead,) = await lab.dead()
    assert dead.value == value
    assert reason in dead.headers[envelope.DEAD_REASON]
    assert dead.headers[envelope.DEAD_TOPIC] == MACHINE_EVENTS
    assert dead.headers[envelope.DEAD_OFFSET] == "1"


async def test_an_android_event_with_only_an_incremental_build_is_an_ordinary_event() -> None:
    lab = Lab()
    android = {"uptime": 10, "getprop": "[ro.build.version.incremental]: [6254899]\n"}

    await lab.write(event("m", standalone={}, android=android))

    assert (await lab.store.get("m")).device_kind == "android"
    assert await lab.dead() == []


class PickyStore(MemoryStore):
    """Refuses to store machines with 13 cores, as a database might refuse a value."""

    async def update_many(
        self, changes: Mapping[str, Sequence[Change]], *, now: datetime, who: str = "labkeeper"
    ) -> Sequence[Updated]:
        for machine in changes:
            for change in changes[machine]:
                if change(Description.new(machine, now=now)).dimension("cores") == ["13"]:
                    raise Rejected("no thirteen, please")
        return await super().update_many(changes, now=now, who=who)


async def test_a_batch_that_fails_for_one_events_sake_is_split_until_it_is_alone() -> None:
    lab = Lab(PickyStore())
    good = [event(f"m{number}") for number in range(20)]

    await lab.write(*good[:7], event("bad", cores=13), *good[7:])

    assert len((await lab.store.list()).machines) == 20
    (dead,) = await lab.dead()
    assert dead.headers[envelope.DEAD_REASON] == "no thirteen, please"


class FlakyStore(MemoryStore):
    """Out of reach for the first few calls."""

    failures = 3

    async def update_many(
        self, changes: Mapping[str, Sequence[Change]], *, now: datetime, who: str = "labkeeper"
    ) -> Sequence[Updated]:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("the database is away")
        return await super().update_many(changes, now=now, who=who)


async def test_a_database_that_is_away_costs_time_but_no_event() -> None:
    lab = Lab(FlakyStore())

    await lab.write(event("m"))

    assert (await lab.store.get("m")).row_version == 1
    assert await lab.dead() == []


class NeverStore(MemoryStore):
    """Out of reach for good."""

    async def update_many(
        self, changes: Mapping[str, Sequence[Change]], *, now: datetime, who: str = "labkeeper"
    ) -> Sequence[Updated]:
        raise StoreUnavailable("the database is away")


async def test_stopping_while_the_database_is_away_leaves_the_batch_for_the_next_writer() -> None:
    lab = Lab(NeverStore())
    await lab.publish(event("m"))

    async with lab.writing():
        pass

    assert [lag.unread for lag in await lab.broker.lag(MACHINE_EVENTS, group=GROUP) if lag.unread] == [1]


async def test_a_broker_that_is_away_while_changes_are_published_gets_them_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab = Lab()
    failing = _fails_times(2, lab.broker.publish)
    await lab.publish(event("m"))
    monkeypatch.setattr(lab.broker, "publish", failing)

    async with lab.writing():
        await lab.until_read()

    assert len(await lab.changes()) == 1


def _fails_times(
    times: int, publish: Callable[[Sequence[Outgoing]], Any]
) -> Callable[[Sequence[Outgoing]], Any]:
    left = [times]

    async def failing(messages: Sequence[Outgoing]) -> None:
        if left[0]:
            left[0] -= 1
            raise BrokerUnavailable("the broker is away")
        await publish(messages)

    return failing


async def test_a_flood_of_bad_messages_stops_the_writer_after_parking_them() -> None:
    lab = Lab(settings=WriterSettings(max_records=10, reject_limit=RejectLimit(rejects=30, among=60)))
    await lab.publish(*[b"junk"] * 100)

    with pytest.raises(TooManyRejects, match="labkeeper dead list"):
        await asyncio.wait_for(lab.writer.run(asyncio.Event()), 10)

    assert 30 <= len(await lab.dead()) < 100


async def test_progress_tells_how_far_everything_has_been_applied() -> None:
    lab = Lab()

    await lab.write(event("m"))

    progress = await lab.store.progress()
    assert {entry.service for entry in progress} == {"writer"}
    assert {entry.caught_up_to for entry in progress} == {NOW}


def counted(metric: Counter) -> float:
    return sum(
        sample.value
        for family in metric.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    )


async def test_what_happened_is_counted_once_although_it_was_tried_more_often() -> None:
    lab = Lab(FlakyStore())
    watched = (EVENTS_PROCESSED, EVENTS_REPLAYED, EVENTS_UNKNOWN_TYPE, CHANGES_SENT, DEAD_LETTERS)
    before = [counted(metric) for metric in watched]

    await lab.write(event("a", sequence=1), event("a", sequence=1), event("b", type="new"), b"junk")

    after = [counted(metric) for metric in watched]
    assert [new - old for old, new in zip(before, after, strict=True)] == [4, 1, 1, 1, 1]


async def test_the_lag_and_the_size_of_batches_can_be_watched() -> None:
    lab = Lab()
    before = batched()

    await lab.publish(event("a"), event("b"), event("c"))
    async with lab.writing(), asyncio.timeout(60):
        await lab.until_read()
        while unread() > 0:
            await asyncio.sleep(0)

    assert batched() - before == 3


def unread() -> float:
    return sum(sample.value for family in CONSUMER_LAG.collect() for sample in family.samples)


def batched() -> float:
    samples = [sample for family in BATCH_RECORDS.collect() for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == "labkeeper_batch_records_sum")


async def test_while_the_broker_is_away_the_lag_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gauge that stands still would look like health."""
    lab = Lab()
    asked = asyncio.Event()

    async def away(topic: str, *, group: str) -> Sequence[Lag]:
        asked.set()
        raise BrokerUnavailable("away")

    async with lab.writing():
        await lab.publish(event("m"))
        await lab.until_read()
        monkeypatch.setattr(lab.broker, "lag", away)
        await asyncio.wait_for(asked.wait(), 10)
        lab.clock.advance(timedelta(minutes=3))
        async with asyncio.timeout(60):
            while behind() < 180:
                await asyncio.sleep(0)
        monkeypatch.undo()
        async with asyncio.timeout(60):
            while behind():
                await asyncio.sleep(0)


def behind() -> float:
    return sum(sample.value for family in CONSUMER_LAG_SECONDS.collect() for sample in family.samples)


class Absent(MemoryBroker):
    """Lacks its topics for the first few tries."""

    def __init__(self, *, tries: int, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.absences = tries

    def subscribe(self, *arguments: Any, **options: Any) -> AbstractAsyncContextManager[Subscription]:
        return self._late(super().subscribe(*arguments, **options))

    @asynccontextmanager
    async def _late(
        self, membership: AbstractAsyncContextManager[Subscription]
    ) -> AsyncIterator[Subscription]:
        if self.absences > 0:
            self.absences -= 1
            raise BrokerUnavailable("there is no such topic yet")
        async with membership as subscription:
            yield subscription


async def test_topics_that_are_not_there_yet_are_waited_for() -> None:
    lab = Lab()
    lab.broker = Absent(tries=2, clock=lab.clock)

    await lab.write(event("m"))

    assert (await lab.store.get("m")).dimension("cores") == ["4"]


async def test_a_writer_without_topics_stops_when_asked() -> None:
    lab = Lab()
    lab.broker = broker = Absent(tries=1_000_000, clock=lab.clock)

    async with lab.writing() as running, asyncio.timeout(60):
        while broker.absences == 1_000_000:
            await asyncio.sleep(0)
        assert not running.done()
