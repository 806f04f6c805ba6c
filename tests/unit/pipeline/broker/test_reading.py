"""Reading until asked to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pipeline.broker.memory import MemoryBroker
from pipeline.broker.protocol import Batch, Outgoing, Subscription
from pipeline.broker.reading import until_stopped
from schemas.topics import MACHINE_CHANGES

DEADLINE_S = 60


@pytest.fixture
async def broker() -> AsyncIterator[MemoryBroker]:
    broker = MemoryBroker()
    yield broker
    await broker.close()


async def read_all(reader: Subscription, stop: asyncio.Event, found: asyncio.Queue[Batch]) -> None:
    async for batch in until_stopped(reader, stop):
        await found.put(batch)


async def test_batches_come_until_the_stop_which_also_ends_a_wait(broker: MemoryBroker) -> None:
    stop = asyncio.Event()
    found: asyncio.Queue[Batch] = asyncio.Queue()
    async with broker.subscribe(MACHINE_CHANGES, group=None) as reader:
        reading = asyncio.create_task(read_all(reader, stop, found))
        await broker.publish([Outgoing(MACHINE_CHANGES, "m", b"{}")])
        batch = await asyncio.wait_for(found.get(), DEADLINE_S)
        assert [message.key for message in batch.messages] == ["m"]
        stop.set()
        await asyncio.wait_for(reading, DEADLINE_S)


async def test_a_reader_that_is_cancelled_leaves_nothing_behind(broker: MemoryBroker) -> None:
    before = asyncio.all_tasks()
    async with broker.subscribe(MACHINE_CHANGES, group=None) as reader:
        reading = asyncio.create_task(read_all(reader, asyncio.Event(), asyncio.Queue()))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait({reading})
    for _ in range(10):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
