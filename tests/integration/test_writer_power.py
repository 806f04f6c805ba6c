"""A command's way through real parts: outbox, relay, topic, an agent's answers, writer, change; on PostgreSQL alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import pytest

from consumers.description_writer.power import PowerResults
from consumers.description_writer.settings import GROUP
from pipeline.broker.embedded import EmbeddedBroker
from pipeline.broker.protocol import From, Outgoing, Subscription
from pipeline.clock import SystemClock
from pipeline.outbox.relay import Relay
from pipeline.store.migrations import migrate
from pipeline.store.sql import SqlStore
from schemas.changes import MachineChange
from schemas.ids import new_ulid
from schemas.power import PowerAction, PowerCommand, PowerStatus, PowerStep
from schemas.topics import MACHINE_CHANGES, POWER_COMMANDS, POWER_RESULTS

pytestmark = pytest.mark.integration

CLOCK = SystemClock()
CYCLE = (PowerStatus.ACCEPTED, PowerStatus.OFF, PowerStatus.ON, PowerStatus.DONE)
DEADLINE_S = 120


class Lab:
    """Store, broker, relay and writer in this process."""

    def __init__(self, database_url: str) -> None:
        migrate(database_url)
        self.store = SqlStore(database_url)
        self.broker = EmbeddedBroker(database_url)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        running = asyncio.create_task(PowerResults(self.store, self.broker, CLOCK).run(stop))
        try:
            yield
        finally:
            stop.set()
            await running

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        running = asyncio.create_task(Relay(self.store, self.broker).run(stop))
        try:
            yield
        finally:
            stop.set()
            await running

    async def order(self, machine_id: str) -> PowerCommand:
        now = CLOCK.now()
        await self.store.update(
            machine_id,
            lambda before: before.model_copy(update={"power_cycle_state": "available"}),
            now=now,
            create=True,
        )
        command = PowerCommand(
            id=new_ulid(),
            machine_id=machine_id,
            action=PowerAction.CYCLE,
            who="jo",
            requested_at=now,
            expires_at=now + timedelta(minutes=10),
        )
        await self.store.order_power(command, now=now)
        return command

    async def answer(self, command: PowerCommand, *statuses: PowerStatus) -> None:
        steps = [
            PowerStep(
                command_id=command.id,
                machine_id=command.machine_id,
                status=status,
                at=CLOCK.now(),
                agent="rack4",
            )
            for status in statuses
        ]
        await self.broker.publish(
            [Outgoing(POWER_RESULTS, step.machine_id, step.model_dump_json().encode()) for step in steps]
        )

    async def unread(self) -> int:
        return sum(lag.unread for lag in await self.broker.lag(POWER_RESULTS, group=GROUP))


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Lab]:
    lab = Lab(database_url)
    await lab.broker.create_topics()
    try:
        yield lab
    finally:
        await lab.broker.close()
        await lab.store.close()


async def changes_until(reader: Subscription, status: PowerStatus) -> list[MachineChange]:
    found: list[MachineChange] = []
    async for batch in reader:
        found.extend(MachineChange.model_validate_json(message.value) for message in batch.messages)
        if found[-1].description.power_status == status.value:
            break
    return found


async def test_everybody_sees_each_step_of_a_command(lab: Lab) -> None:
    """From the order to the end; the commands reach the agents as they were ordered."""
    async with AsyncExitStack() as stack, asyncio.timeout(DEADLINE_S):
        changes = await stack.enter_async_context(lab.broker.subscribe(MACHINE_CHANGES, group=None))
        commands = await stack.enter_async_context(
            lab.broker.subscribe(POWER_COMMANDS, group=None, start=From.LATEST)
        )
        await stack.enter_async_context(lab.writing())
        await stack.enter_async_context(lab.relaying())
        ordered = await lab.order("skia-1")
        batch = await anext(aiter(commands))
        assert [PowerCommand.model_validate_json(each.value) for each in batch.messages] == [ordered]

        took = []
        seen = (await changes_until(changes, PowerStatus.QUEUED))[-1:]
        for status in CYCLE:
            began = time.monotonic()
            await lab.answer(ordered, status)
            seen += await changes_until(changes, status)
            took.append(time.monotonic() - began)

    assert [each.description.power_status for each in seen] == ["queued", *CYCLE]
    versions = [each.version for each in seen]
    assert versions == sorted(set(versions))
    assert min(took) < 5.0


async def test_two_writers_share_the_work_and_a_flood_of_results_comes_to_the_end(lab: Lab) -> None:
    """Forty machines at once, each result published twice, and one of the writers leaves in between."""
    ordered = [await lab.order(f"skia-{number}") for number in range(40)]
    async with asyncio.timeout(DEADLINE_S):
        async with lab.writing():
            async with lab.writing():
                await asyncio.gather(*(lab.answer(each, *CYCLE, *CYCLE) for each in ordered[:20]))
            await asyncio.gather(*(lab.answer(each, *CYCLE[::-1]) for each in ordered[20:]))
            while await lab.unread():
                await asyncio.sleep(0.02)

    records = await lab.store.power_commands(pending=False)
    assert {each.command.id for each in records} == {each.id for each in ordered}
    assert {tuple(moment.status for moment in each.steps) for each in records[20:]} == {
        tuple(PowerStatus)[:5]
    }
    assert {each.status for each in records} == {PowerStatus.DONE}
    assert await lab.store.list_powercycle() == []
