from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.broker.memory import MemoryBroker
from producers.machine_monitor.sinks.broker import broker_sink
from schemas.envelope import EVENT_TYPE, metadata
from schemas.topics import MACHINE_EVENTS


async def test_events_are_published_under_the_machines_id() -> None:
    broker = MemoryBroker()
    headers = metadata(EVENT_TYPE, "/machines/machine-1")

    @asynccontextmanager
    async def opened() -> AsyncIterator[MemoryBroker]:
        yield broker

    async with broker_sink(opened) as sink:
        await sink.send("machine-1", b"{}", headers)
    (message,) = await broker.fetch(MACHINE_EVENTS)
    assert (message.key, message.value, dict(message.headers)) == ("machine-1", b"{}", headers)
    await broker.close()
