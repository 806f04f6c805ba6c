"""Faust's own consumer, fed with topics that have holes: what it does not get over, its worker notices and mends, or says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from consumers.fleet_stats import faust_runner
from consumers.fleet_stats.faust_progress import AT_MOST_S, Progress
from consumers.fleet_stats.faust_runner import Worker
from consumers.fleet_stats.faust_table import make_app
from consumers.fleet_stats.settings import FAUST_GROUP, FleetStatsSettings
from pipeline.broker.kafka_client import Link
from pipeline.broker.memory import MemoryBroker
from pipeline.broker.protocol import Lag
from pipeline.clock import ManualClock
from pipeline.errors import BrokerUnavailable
from pipeline.settings import KafkaSettings

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PLACE = TP("machine.changes", 0)


@dataclass(eq=False)
class Message:
    """What Faust reads of one to acknowledge it."""

    offset: int
    tp: TP = PLACE
    topic: str = PLACE.topic
    acked: bool = False
    key: bytes = b"a"
    value: bytes = b""


class Partition:
    """One partition, as far as Faust's consumer deals with it: its offsets, and what is committed."""

    def __init__(self, app: Any, offsets: list[int]) -> None:
        self._app = app
        self._offsets = offsets
        self._position = 0
        self.committed = 0
        self.dropped: set[int] = set()
        """Offsets that get lost on their way to the agent the next time."""

    def attach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In place of Kafka and of the agent, which acknowledges at once."""
        consumer = self._app.consumer
        for name, stand_in in {
            "getmany": self._getmany,
            "callback": self._deliver,
            "_seek": self._seek,
            "_commit": self._commit,
            "seek_to_committed": self._seek_to_committed,
            "assignment": lambda: {PLACE},
        }.items():
            monkeypatch.setattr(consumer, name, stand_in)
        monkeypatch.setattr(self._app.topics, "acks_enabled_for", lambda _: True)
        monkeypatch.setattr(type(self._app), "producer", SimpleNamespace(flush=self._flush))

    async def read(self) -> None:
        """All that is there, by Faust's own loop; then commit."""
        fetcher = SimpleNamespace(_stopped=asyncio.Event())
        reading = asyncio.create_task(self._app.consumer._drain_messages(fetcher))
        async with asyncio.timeout(60):
            while not reading.done() and any(offset >= self._position for offset in self._offsets):
                await asyncio.sleep(0)
            fetcher._stopped.set()
            await reading
        await self._app.consumer.commit()

    def lag(self) -> Lag:
        """What the broker would say."""
        unread = [offset for offset in self._offsets if offset >= self.committed]
        oldest = NOON + timedelta(seconds=unread[0]) if unread else None
        return Lag(PLACE.partition, len(unread), oldest, NOON + timedelta(days=1))

    async def _getmany(self, **_: float) -> AsyncIterator[tuple[TP, Any]]:
        for offset in [each for each in self._offsets if each >= self._position]:
            self._position = offset + 1
            yield PLACE, Message(offset)
        await asyncio.sleep(0)

    async def _deliver(self, message: Any) -> None:
        if message.offset in self.dropped:
            self.dropped.discard(message.offset)
        else:
            self._app.consumer.ack(message)

    async def _seek(self, _: TP, offset: int) -> None:
        self._position = offset

    async def _seek_to_committed(self) -> dict[TP, int | None]:
        if self.committed:
            self._position = self.committed
        return {PLACE: self.committed or None}

    async def _commit(self, offsets: dict[TP, int]) -> bool:
        self.committed = offsets[PLACE]
        return True

    async def _flush(self) -> None:
        return None


@pytest.fixture
async def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Worker]:
    """Has the whole topic, and patience for nothing."""
    app = make_app("test", ["127.0.0.1:1"], {}, replication=1, folder=str(tmp_path))
    clock = ManualClock(NOON)
    broker = MemoryBroker(clock=clock)
    link = Link(KafkaSettings())
    worker = Worker(app, link, PLACE.topic, 1, broker, clock, FleetStatsSettings(), asyncio.Event())
    monkeypatch.setattr(worker, "_has_all", lambda: True)
    yield worker
    app.consumer._thread.thread_loop.close()


def partition_of(worker: Worker, offsets: list[int], monkeypatch: pytest.MonkeyPatch) -> Partition:
    """What the worker's Faust reads from, and the worker's broker knows."""
    partition = Partition(worker._app, offsets)
    partition.attach(monkeypatch)

    async def lag(_topic: str, *, group: str) -> list[Lag]:
        assert group == FAUST_GROUP
        return [partition.lag()]

    monkeypatch.setattr(worker._broker, "lag", lag)
    return partition


async def read_and_look(worker: Worker, partition: Partition, times: int) -> None:
    """As often, with a while in between."""
    for _ in range(times):
        await partition.read()
        worker._progress._looked -= 10
        await worker._caught_up_to()


async def test_nothing_is_read_between_recovery_and_the_seek_to_the_committed_positions(
    worker: Worker,
) -> None:
    """Faust reads on while it seeks, and drops changes: a later one of the same machine then hides them for good."""
    consumer = worker._app.consumer
    consumer.resume_flow()

    await worker._table.on_recovery_completed(set(), set())

    assert not consumer.flow_active


async def test_faust_alone_never_gets_over_a_hole_after_the_first_message(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why all this is needed: when it does by itself, it can go."""
    partition = partition_of(worker, [0, 5, 6], monkeypatch)
    await partition._app.consumer.seek(PLACE, 0)

    for _ in range(3):
        await partition.read()

    assert partition.committed == 1


@pytest.mark.parametrize("offsets", [[0, 5, 6], [0, 1, 7, 8, 20], [3, 9]])
async def test_what_compaction_has_removed_keeps_nothing_from_being_committed(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, offsets: list[int]
) -> None:
    partition = partition_of(worker, offsets, monkeypatch)

    await read_and_look(worker, partition, 4)

    assert partition.committed == offsets[-1] + 1


@pytest.mark.parametrize("lost", [0, 3, 5])
async def test_what_faust_drops_on_its_way_is_read_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    partition = partition_of(worker, list(range(9)), monkeypatch)
    partition.dropped.add(lost)

    await read_and_look(worker, partition, 4)

    assert partition.committed == 9
    assert not partition.dropped


async def test_a_commit_that_failed_is_made_up_for(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust takes it for done, and would wait for the next change."""
    partition = partition_of(worker, list(range(9)), monkeypatch)
    with monkeypatch.context() as context:
        context.setattr(partition._app.consumer, "_commit", lambda _: asyncio.sleep(0, False))
        await partition.read()
    assert partition.committed == 0

    await read_and_look(worker, partition, 4)

    assert partition.committed == 9


async def test_standing_still_for_long_is_said_and_ends_the_process(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = partition_of(worker, [0, 1], monkeypatch)
    monkeypatch.setattr(faust_runner, "_LOST_S", 35.0)
    monkeypatch.setattr(worker, "_has_all", lambda: False)

    for _ in range(4):
        worker._check_progress()
        worker._progress._looked -= 10
        await worker._caught_up_to()
    worker._check_progress()
    worker._progress._looked -= 10
    await worker._caught_up_to()

    with pytest.raises(BrokerUnavailable, match=r"for 40 s, though 2 changes are unread"):
        worker._check_progress()
    partition.committed = 1
    await worker._caught_up_to()
    worker._check_progress()


def test_time_in_which_nobody_could_look_does_not_count() -> None:
    """A Kafka that is away is no fault of Faust's."""
    now = 0.0
    progress = Progress(lambda: now)
    still = Lag(0, 1, NOON, NOON)
    progress.look([still])

    now += 3600
    progress.look([still])

    assert progress.worst() == (still, AT_MOST_S)


def test_who_was_read_again_gets_time_before_it_is_so_once_more() -> None:
    now = 0.0
    progress = Progress(lambda: now)
    still = Lag(0, 1, NOON, NOON)
    found = []
    for _ in range(5):
        progress.look([still, Lag(1, 0, None, NOON)])
        found.append(progress.to_read_again(8.0))
        now += 5

    assert found == [[], [], [still], [], [still]]
