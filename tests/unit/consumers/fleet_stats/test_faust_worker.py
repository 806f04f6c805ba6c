"""The Faust runner's worker, with a broker in memory and without a Kafka."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from consumers.fleet_stats import faust_runner
from consumers.fleet_stats.faust_runner import Worker
from consumers.fleet_stats.faust_table import make_app
from consumers.fleet_stats.settings import FleetStatsSettings
from pipeline.broker.deadletter import RejectLimit
from pipeline.broker.kafka_client import Link
from pipeline.broker.memory import MemoryBroker
from pipeline.clock import ManualClock
from pipeline.errors import BrokerUnavailable, TooManyRejects
from pipeline.mandate import Mandate
from pipeline.service import Abandoned
from pipeline.settings import KafkaSettings
from pipeline.store.memory import MemoryStore
from schemas import envelope
from schemas.fleet_stats import FleetStats
from schemas.health import Health
from schemas.topics import FLEET_STATS, MACHINE_CHANGES, dead_letters_of
from tests.unit.pipeline.statistics.lives import MINUTE, T0, read, seen

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class Event:
    """What Faust hands to its agent: nothing that could be read as a change, unless told otherwise."""

    message: Any
    acks: int = 0

    def ack(self) -> None:
        """Faust may commit it."""
        self.acks += 1


def event(value: bytes, offset: int = 0) -> Event:
    message = SimpleNamespace(
        key=b"a",
        value=value,
        headers=((envelope.ROW_VERSION, b"1"),),
        timestamp=NOON.timestamp(),
        partition=0,
        offset=offset,
    )
    return Event(message)


@pytest.fixture
async def worker(tmp_path: Path) -> Worker:
    app = make_app("test", ["127.0.0.1:1"], {}, replication=1, folder=str(tmp_path))
    clock = ManualClock(NOON)
    settings = FleetStatsSettings(reject_limit=RejectLimit(3, 6))
    link = Link(KafkaSettings())
    return Worker(
        app, link, "machine.changes", 8, MemoryBroker(clock=clock), clock, settings, asyncio.Event()
    )


async def test_nothing_is_acknowledged_before_the_changelog_has_it(worker: Worker) -> None:
    first, second = asyncio.Future[None](), asyncio.Future[None]()
    processed = event(b"")
    worker._processed = [processed]
    worker._table._unwritten = [first, second]
    acknowledging = asyncio.create_task(worker._acknowledge())
    second.set_result(None)
    await asyncio.wait({acknowledging}, timeout=0.05)
    assert (processed.acks, acknowledging.done()) == (0, False)

    first.set_result(None)
    await acknowledging

    assert processed.acks == 1


async def test_what_the_changelog_does_not_take_is_not_acknowledged(worker: Worker) -> None:
    promise = asyncio.Future[None]()
    promise.set_exception(OSError("disk full"))
    processed = event(b"")
    worker._processed = [processed]
    worker._table._unwritten = [promise]

    with pytest.raises(BrokerUnavailable, match="disk full"):
        await worker._acknowledge()

    assert processed.acks == 0


async def test_who_is_asked_to_stop_does_not_wait_for_the_changelog_for_ever(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faust_runner, "_WRITE_S", 0.01)
    processed = event(b"")
    worker._processed = [processed]
    worker._table._unwritten = [asyncio.Future[None]()]
    worker._stop.set()

    with pytest.raises(Abandoned):
        await worker._acknowledge()

    assert processed.acks == 0


async def test_a_changelog_that_takes_nothing_though_kafka_answers_ends_it(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faust_runner, "_WRITE_S", 0.01)
    monkeypatch.setattr(faust_runner, "_LOST_S", 0.03)
    processed = event(b"")
    worker._processed = [processed]
    worker._table._unwritten = [asyncio.Future[None]()]

    with pytest.raises(BrokerUnavailable, match="has not taken 1 records"):
        await worker._acknowledge()

    assert processed.acks == 0


async def test_bad_messages_among_good_ones_never_stop_it(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker._table, "set_record", lambda *_: None)
    for _ in range(10):
        await worker._process(event(b"{"))
        for _ in range(3):
            await worker._process(event(b""))

    assert len(await worker._broker.fetch(dead_letters_of(MACHINE_CHANGES))) == 10


async def test_a_flood_of_bad_messages_does(worker: Worker) -> None:
    for _ in range(2):
        await worker._process(event(b"{"))

    with pytest.raises(TooManyRejects):
        await worker._process(event(b"{"))


class Unchallenged(Mandate):
    """Nobody else is there."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(), "fleet-stats", lease_s=9)

    async def confirm(self) -> None:
        """It is ours."""


async def test_over_the_day_on_which_a_machine_is_forgotten_it_tells_what_the_plain_loop_tells(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only machine of a pool was deleted; told in two goes, so that in the second it is remembered no more."""
    minutes = 24 * 60 + 5
    ledger = read(seen("gone", 1, 0, Health.AVAILABLE, "Old"), seen("gone", 2, 90, None, ""))
    news = [seen("stays", number, 60 * number, Health.AVAILABLE) for number in (1, minutes - 1)]
    assert all(map(ledger.apply, news))
    table = worker._table
    monkeypatch.setattr(table, "send_changelog", lambda *_: None)
    monkeypatch.setattr(type(table), "changelog_topic", SimpleNamespace(send_soon=lambda **_: None))
    for machine_id, record in ledger.records.items():
        kept = replace(record, floor=T0 + minutes * MINUTE) if machine_id == "stays" else record
        table.data[machine_id.encode()] = kept.to_json()
        table._partitions[machine_id.encode()] = 0
    monkeypatch.setattr(worker, "_has_all", lambda: True)
    worker._floor = T0
    should = [each for _, window in ledger.due(T0 + (minutes + 10) * MINUTE) for each in window]

    for end in (minutes, minutes + 10):
        caught_up_to = NOON + timedelta(minutes=end) + worker._settings.grace
        monkeypatch.setattr(worker, "_caught_up_to", partial(asyncio.sleep, 0, caught_up_to))
        await worker._tell(Unchallenged())
        assert set(table.records()) == {"stays"}

    messages = await worker._broker.fetch(FLEET_STATS, limit=10_000)
    told = [FleetStats.model_validate_json(message.value) for message in messages]
    assert {(each.pool, each.window_start): each for each in told} == {
        (each.pool, each.window_start): each for each in should
    }
    assert len(told) == len(should)
    assert max(each.window_start for each in told if each.pool == "Old") == NOON + timedelta(
        days=1, minutes=1
    )


async def test_a_start_that_takes_too_long_is_kafkas_fault_and_undone(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = asyncio.Event()

    async def start() -> None:
        await asyncio.Event().wait()

    async def stop() -> None:
        stopped.set()

    monkeypatch.setattr(faust_runner, "_START_S", 0.01)
    monkeypatch.setattr(worker, "_app", SimpleNamespace(start=start, stop=stop))

    with pytest.raises(BrokerUnavailable, match="has not started"):
        async with worker.running():
            raise AssertionError

    assert stopped.is_set()
