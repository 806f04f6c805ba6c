"""The agent as a process of its own, with PostgreSQL, the embedded broker and a switch that speaks its real protocol."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from consumers.description_writer.power import PowerResults
from consumers.powercycle_agent.drivers.protocol import PortState
from pipeline.clock import SystemClock
from pipeline.factory import open_broker, open_store
from pipeline.outbox.relay import Relay
from pipeline.settings import Connections
from pipeline.store.migrations import migrate
from pipeline.store.sql import SqlStore
from schemas.description import Description, PowerCycleState
from schemas.ids import new_ulid
from schemas.power import PowerAction, PowerCommand, PowerStatus
from tests.power_devices.tasmota import FakeTasmota
from tests.power_devices.web_device import PASSWORD

pytestmark = pytest.mark.integration

CLOCK = SystemClock()
PATIENCE_S = 120


class Lab:
    """A store with a relay and a writer, and a switch."""

    def __init__(self, url: str, store: SqlStore, switch: FakeTasmota, directory: Path) -> None:
        self.store = store
        self.switch = switch
        self.config = directory / "powercycle.json5"
        self._url = url
        self._directory = directory

    def configure(self, **ports: int) -> None:
        """The agent's configuration; written beside it first, as an editor does."""
        entry = {
            "address": self.switch.address,
            "password_file": str(self._directory / "password"),
            "ports": ports,
            "delay": 0.1,
        }
        (self._directory / "password").write_text(PASSWORD)
        new = self.config.with_suffix(".new")
        new.write_text(json.dumps({"tasmota": {"bench": entry}}))
        new.rename(self.config)

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """The process; asked to stop in the end, which it must do well."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "consumers.powercycle_agent", "--name", "rack4"),
            *("--config", str(self.config), "--state-dir", str(self._directory / "state")),
            env={**os.environ, "LABKEEPER_DATABASE_URL": self._url, "LABKEEPER_LOG_LEVEL": "warning"},
        )
        try:
            yield process
            process.terminate()
            async with asyncio.timeout(PATIENCE_S):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def order(self, machine: str, action: PowerAction, **fields: Any) -> PowerCommand:
        now = CLOCK.now()
        command = PowerCommand(
            id=new_ulid(),
            machine_id=machine,
            action=action,
            who="ann",
            requested_at=now,
            expires_at=now + timedelta(minutes=10),
            force=True,
            **fields,
        )
        await self.store.order_power(command, now=now)
        return command

    async def ended(self, command: PowerCommand) -> list[PowerStatus]:
        """Wait for its end; all that it went through."""

        async def is_over() -> bool:
            record = await self.store.power_command(command.id)
            return record is not None and not record.status.is_pending

        await until(is_over, "the command has ended")
        record = await self.store.power_command(command.id)
        assert record is not None
        return [moment.status for moment in record.steps]

    async def is_available(self, machine: str) -> bool:
        outlets = await self.store.power_outlets([machine])
        return [outlet.state for outlet in outlets] == [PowerCycleState.AVAILABLE]


def _seen(before: Description) -> Description:
    return before.model_copy(update={"last_updated": CLOCK.now()})


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await holds():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None


@pytest.fixture
async def lab(database_url: str, tmp_path: Path) -> AsyncIterator[Lab]:
    migrate(database_url)
    connections = Connections(database_url)
    switch = FakeTasmota()
    await switch.start()
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(switch.stop)
        store = await stack.enter_async_context(open_store(connections))
        broker = await stack.enter_async_context(open_broker(connections))
        tasks = [
            asyncio.create_task(Relay(store, broker).run(stop)),
            asyncio.create_task(PowerResults(store, broker, CLOCK).run(stop)),
        ]
        for machine in ("m1", "m2"):
            await store.update(machine, _seen, now=CLOCK.now(), create=True)
        yield Lab(database_url, store, switch, tmp_path)
        stop.set()
        await asyncio.wait(tasks)


async def test_a_click_cycles_the_port_and_shows_in_the_machine_and_a_new_port_needs_no_restart(
    lab: Lab,
) -> None:
    lab.configure(m1=1)
    async with lab.agent() as process:
        await until(lambda: lab.is_available("m1"), "m1 can be cycled")
        command = await lab.order("m1", PowerAction.CYCLE)
        assert await lab.ended(command) == [
            PowerStatus.QUEUED,
            PowerStatus.ACCEPTED,
            PowerStatus.OFF,
            PowerStatus.ON,
            PowerStatus.DONE,
        ]
        machine = await lab.store.get("m1")
        assert (machine.power_cycle, machine.power_status) == (False, "done")
        told = [re.sub(r"\W+", " ", text).lower().split() for text in lab.switch.commands]
        (off,) = (place for place, words in enumerate(told) if "off" in words)
        (on,) = (place for place, words in enumerate(told) if "on" in words)
        assert off < on
        assert lab.switch.states["1"] is PortState.ON

        lab.configure(m1=1, m2=2)
        process.send_signal(signal.SIGHUP)
        await until(lambda: lab.is_available("m2"), "m2 can be cycled")
        assert (await lab.ended(await lab.order("m2", PowerAction.OFF)))[-1] is PowerStatus.DONE
        assert lab.switch.states["2"] is PortState.OFF


async def test_the_first_command_is_on_the_wire_soon_after_the_click(lab: Lab) -> None:
    lab.configure(m1=1)
    took = []
    async with lab.agent():
        await until(lambda: lab.is_available("m1"), "m1 can be cycled")
        for _ in range(10):
            seen = len(lab.switch.log)
            clicked = time.monotonic()
            await lab.ended(await lab.order("m1", PowerAction.ON))
            took.append(lab.switch.log[seen].at - clicked)

    print(f"click to wire: p50 {statistics.median(took) * 1000:.0f} ms, longest {max(took) * 1000:.0f} ms")  # noqa: T201
    assert (
        statistics.median(took) < 10
    )  # who is not told asks once a minute; the bench measures how soon it is
