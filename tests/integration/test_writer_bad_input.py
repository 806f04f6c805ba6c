"""On the topic, a bad event is parked with a reason that names the field, and costs no neighbour. Real broker, real database."""

from __future__ import annotations

import asyncio

import pytest

from consumers.description_writer.service import DescriptionWriter
from consumers.description_writer.settings import GROUP, WriterSettings
from pipeline.broker.protocol import Outgoing, Received
from pipeline.clock import SystemClock
from pipeline.factory import open_broker, open_store
from pipeline.settings import Connections
from pipeline.store.migrations import migrate
from schemas import envelope
from schemas.topics import MACHINE_EVENTS, dead_letters_of
from tests.hostile import HOSTILE_EVENTS, event

pytestmark = pytest.mark.integration


def good(number: int) -> bytes:
    return event(host={"name": f"good-{number}"}, standalone={"cores": 4})


async def test_every_bad_event_is_parked_with_its_field_and_every_neighbour_lives(database_url: str) -> None:
    migrate(database_url)
    lab = Connections(database_url)
    hostile = {
        **HOSTILE_EVENTS,
        "ten megabytes": (event(host={"name": "m", "version": "x" * 10_000_000}), "body"),
    }
    values = [value for number, (bad, _) in enumerate(hostile.values()) for value in (good(number), bad)]
    async with open_store(lab) as store, open_broker(lab) as broker:
        await broker.publish([Outgoing(MACHINE_EVENTS, "same-key", value) for value in values])
        stop = asyncio.Event()
        writing = asyncio.create_task(
            DescriptionWriter(store, broker, SystemClock(), WriterSettings()).run(stop)
        )
        async with asyncio.timeout(60):
            while any(lag.unread for lag in await broker.lag(MACHINE_EVENTS, group=GROUP)):
                await asyncio.sleep(0.02)
        stop.set()
        await writing
        machines = {machine.dimension("id")[0] for machine in (await store.list()).machines}
        parked = await broker.fetch(dead_letters_of(MACHINE_EVENTS), limit=1000)
    assert machines == {f"good-{number}" for number in range(len(hostile))}
    assert [dead.value for dead in parked] == [bad for bad, _ in hostile.values()]
    for dead, (case, (_, field)) in zip(parked, hostile.items(), strict=True):
        assert reason(dead).startswith(f"{field}: "), case


def reason(dead: Received) -> str:
    return dead.headers[envelope.DEAD_REASON]
