from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.broker.memory import MemoryBroker
from pipeline.broker.protocol import Broker, Outgoing
from pipeline.clock import ManualClock
from pipeline.errors import BrokerUnavailable
from pipeline.retry import Backoff
from producers.machine_monitor.belief import Belief
from producers.machine_monitor.change_watch import ChangeWatch
from schemas.changes import ChangeKind, change_json
from schemas.description import Description
from schemas.envelope import ROW_VERSION
from schemas.topics import MACHINE_CHANGES

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PHONE = Description(attached_device="adb", row_version=3)
BOARD = Description(attached_device="pyocd", row_version=5)


class Lab:
    """A broker, and a monitor's belief."""

    def __init__(self, snapshot: Path) -> None:
        self.broker = MemoryBroker()
        self.belief = Belief(snapshot)
        self.failures = 0
        self.watch = ChangeWatch(
            self.open, self.belief, "m", clock=ManualClock(NOW), backoff=lambda: Backoff(0.001, 0.001)
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Broker]:
        if self.failures:
            self.failures -= 1
            raise BrokerUnavailable("away")
        with nullcontext(self.broker) as broker:
            yield broker

    async def tell(self, description: Description, *, machine: str = "m") -> None:
        await self.tell_raw(change_json(machine, [ChangeKind.DEVICE], "who", description), machine=machine)

    async def tell_raw(
        self, value: bytes, headers: Mapping[str, str] | None = None, *, machine: str = "m"
    ) -> None:
        await self.broker.publish([Outgoing(MACHINE_CHANGES, machine, value, headers or {})])

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.watch.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def until(self, is_so: Callable[[Description], bool]) -> Description:
        async with asyncio.timeout(60):
            while not is_so(await self.belief.known()):
                await asyncio.sleep(0)
        return await self.belief.known()


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(tmp_path / "description.json")
    yield lab
    await lab.broker.close()


async def test_a_first_start_believes_the_newest_that_the_topic_keeps(lab: Lab) -> None:
    for number in range(600):
        await lab.tell(BOARD, machine=f"other-{number}")
    await lab.tell(BOARD)
    await lab.tell(PHONE)
    await lab.watch.learn()
    assert lab.belief.current == BOARD


async def test_a_machine_the_topic_does_not_tell_of_is_a_new_one(lab: Lab) -> None:
    await lab.tell_raw(b"not ours, not read", machine="other")
    await lab.watch.learn()
    assert lab.belief.current == Description.new("m", now=NOW)


async def test_a_later_start_does_not_wait_for_the_broker(lab: Lab, tmp_path: Path) -> None:
    Belief(tmp_path / "description.json").replace(PHONE)
    lab.failures = 1000
    await lab.watch.learn()
    assert lab.belief.current == PHONE


async def test_a_first_start_waits_for_a_broker_that_is_away(lab: Lab) -> None:
    lab.failures = 3
    await lab.tell(PHONE)
    async with lab.watching():
        assert await lab.until(lambda _: True) == PHONE


async def test_changes_are_believed_as_they_come_and_never_an_older_one(lab: Lab) -> None:
    await lab.tell(PHONE)
    async with lab.watching():
        await lab.until(lambda known: known == PHONE)
        await lab.tell(BOARD)
        await lab.until(lambda known: known == BOARD)
        await lab.tell(PHONE)
        await lab.tell_raw(b"{")
        await lab.tell(PHONE.model_copy(update={"row_version": 6}))
        assert (await lab.until(lambda known: known != BOARD)).row_version == 6


async def test_a_deleted_machine_is_a_new_one_that_older_changes_do_not_bring_back(lab: Lab) -> None:
    await lab.tell(BOARD)
    await lab.tell_raw(b"", {ROW_VERSION: "6"})
    await lab.tell(PHONE)
    await lab.watch.learn()
    expected = Description.new("m", now=NOW).model_copy(update={"row_version": 6})
    assert lab.belief.current == expected


async def test_a_deletion_without_a_version_is_not_believed(lab: Lab) -> None:
    await lab.tell(PHONE)
    await lab.tell_raw(b"")
    await lab.watch.learn()
    assert lab.belief.current == PHONE
