"""A lab in this process for agents in others: a façade on a port, a relay and a writer, with store and broker in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from aiohttp import web

from consumers.description_writer.power import PowerResults
from consumers.facade.app import make_app
from consumers.facade.auth import authenticator
from consumers.facade.settings import FacadeSettings
from pipeline.broker.memory import MemoryBroker
from pipeline.clock import SystemClock
from pipeline.outbox.relay import Relay
from pipeline.store.memory import MemoryStore
from schemas.description import PowerCycleState
from schemas.ids import new_ulid
from schemas.power import PowerAction, PowerCommand, PowerRecord, PowerStatus, PowerStep, read_result
from schemas.topics import POWER_RESULTS


class PowerLab:
    """What operators and agents see."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.store = MemoryStore(clock=self.clock)
        self.broker = MemoryBroker()
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        settings = FacadeSettings(port=0)
        app = make_app(
            store=self.store,
            broker=self.broker,
            auth=authenticator(settings),
            settings=settings,
            clock=self.clock,
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        stop = asyncio.Event()
        tasks = [
            asyncio.create_task(Relay(self.store, self.broker).run(stop)),
            asyncio.create_task(PowerResults(self.store, self.broker, self.clock).run(stop)),
        ]
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield
        finally:
            stop.set()
            await asyncio.wait(tasks)
            await runner.cleanup()

    async def add(self, *machine_ids: str) -> None:
        """Machines whose power can be cycled."""

        def change(before: Any) -> Any:
            return before.model_copy(update={"power_cycle_state": PowerCycleState.AVAILABLE})

        await self.store.update_many({each: [change] for each in machine_ids}, now=self.clock.now())

    async def order(self, machine_id: str, *, delay_s: float | None = None) -> str:
        """A click; the command's id."""
        now = self.clock.now()
        command = PowerCommand(
            id=new_ulid(),
            machine_id=machine_id,
            action=PowerAction.CYCLE,
            delay_s=delay_s,
            who="ann",
            requested_at=now,
            expires_at=now + timedelta(minutes=10),
        )
        await self.store.order_power(command, now=now)
        return command.id

    async def record(self, command_id: str) -> PowerRecord:
        record = await self.store.power_command(command_id)
        assert record is not None
        return record

    async def reached(self, command_id: str, status: PowerStatus) -> PowerRecord:
        """Wait until the store knows that it got so far."""
        async with asyncio.timeout(120):
            while True:
                record = await self.record(command_id)
                if status in {moment.status for moment in record.steps}:
                    return record
                assert record.status.is_pending, record
                await asyncio.sleep(0.005)

    async def told(self, command_id: str) -> Sequence[PowerStep]:
        """All that agents ever said of it."""
        results = [
            read_result(message.value) for message in await self.broker.fetch(POWER_RESULTS, limit=100_000)
        ]
        return [
            result for result in results if isinstance(result, PowerStep) and result.command_id == command_id
        ]


async def until(holds: Callable[[], bool], what: str, *, within_s: float = 120.0) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(within_s):
            while not holds():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None
