"""From a click on the page to the first byte of the first command on the switch's wire, one click at a time."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp

from consumers.powercycle_agent.drivers.edgeswitch import KIND
from consumers.powercycle_agent.drivers.secrets import Secrets
from pipeline.clock import SystemClock
from pipeline.settings import Connections
from schemas.ids import new_ulid
from schemas.power import PowerRecord, PowerStatus
from tests.bench.lab import running
from tests.bench.latency import free_port, until_ready
from tests.bench.throughput import create_machines
from tests.power_devices.edgeswitch import FakeEdgeSwitch
from tests.power_devices.ssh_device import PASSWORD, USER

MACHINES: Final = 8
_OFF_FOR_S: Final = 0.1
_PATIENCE_S: Final = 60
_LOOK_EVERY_S: Final = 0.05
_CLOCK: Final = SystemClock()


@dataclass(slots=True)
class Clicks:
    """Seconds since the click, one entry a click."""

    answered: list[float] = field(default_factory=list)
    """The page has its answer: the command is in the database."""
    accepted: list[float] = field(default_factory=list)
    """The agent begins with it."""
    on_wire: list[float] = field(default_factory=list)
    """The first byte is at the switch."""


def percentile(seconds: Sequence[float], share: float) -> float:
    """In milliseconds."""
    return sorted(seconds)[int(len(seconds) * share)] * 1000


async def clicks(lab: Connections, count: int, *, over_http: bool) -> Clicks:
    """Cycle idle machines behind one EdgeSwitch, with all that a lab runs; the agent reads the broker or the façade."""
    machines = [f"bench-{number}" for number in range(1, MACHINES + 1)]
    await create_machines(lab, machines)
    async with _switch() as switch, aiohttp.ClientSession() as session:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as services:
            base = await _start(services, lab, session)
            services.enter_context(_agent(lab, Path(folder), switch, base if over_http else None))
            page = _Page(session, base, switch)
            await page.until_available(machines)
            for number in range(count):
                # Clicks come when they come, and not in step with whoever looks every so often.
                await asyncio.sleep(random.uniform(0, 0.1))
                await page.click(machines[number % MACHINES])
    return page.clicks


async def ceiling(count: int) -> Sequence[float]:
    """Seconds from the call of a driver whose connection is open to the same byte."""
    took = []
    async with _switch() as switch:
        driver = KIND.open(KIND.settings.model_validate(_entry(switch)), Secrets({}, Path("/nowhere")))
        await driver.probe()
        for _ in range(count):
            told, began = len(switch.log), time.monotonic()
            await driver.off("1")
            took.append(_first_byte(switch, told) - began)
            await driver.on("1")
        await driver.close()
    return took


class _Page:
    """Clicks as the page does, and looks at the switch's wire."""

    def __init__(self, session: aiohttp.ClientSession, base: str, switch: FakeEdgeSwitch) -> None:
        self._session = session
        self._base = base
        self._switch = switch
        self.clicks = Clicks()

    async def until_available(self, machines: Sequence[str]) -> None:
        """Wait until the agent has reported the machines."""
        async with asyncio.timeout(_PATIENCE_S):
            while not await self._are_available(machines):
                await asyncio.sleep(_LOOK_EVERY_S)

    async def click(self, machine_id: str) -> None:
        """Order, take the times, and wait until the machine is idle again."""
        told, clicked_at, clicked = len(self._switch.log), _CLOCK.now(), time.monotonic()
        async with self._session.put(
            f"{self._base}/api/v1/machines/{machine_id}/power",
            json={"action": "cycle", "why": ""},
            headers={"Idempotency-Key": new_ulid()},
        ) as response:
            response.raise_for_status()
            ordered = PowerRecord.model_validate_json(await response.read())
        self.clicks.answered.append(time.monotonic() - clicked)
        record = await self._ended(ordered.command.id)
        if record.status is not PowerStatus.DONE:
            raise RuntimeError(f"a cycle ended as {record.status}: {record.text}")
        self.clicks.accepted.append(_since(clicked_at, record))
        self.clicks.on_wire.append(_first_byte(self._switch, told) - clicked)

    async def _are_available(self, machines: Sequence[str]) -> bool:
        async with self._session.get(f"{self._base}/api/v1/machines") as response:
            response.raise_for_status()
            found = (await response.json())["machines"]
        return [each["PowerCycleState"] for each in found] == ["available"] * len(machines)

    async def _ended(self, command_id: str) -> PowerRecord:
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                await asyncio.sleep(_LOOK_EVERY_S)
                async with self._session.get(f"{self._base}/api/v1/power/commands/{command_id}") as response:
                    response.raise_for_status()
                    record = PowerRecord.model_validate_json(await response.read())
                if not record.status.is_pending:
                    return record


def _since(clicked_at: datetime, record: PowerRecord) -> float:
    accepted = next(moment.at for moment in record.steps if moment.status is PowerStatus.ACCEPTED)
    return (accepted - clicked_at) / timedelta(seconds=1)


def _first_byte(switch: FakeEdgeSwitch, told: int) -> float:
    """When the first command after those that it was `told` came in. What else comes on the wire keeps the connection alive."""
    known = switch.log[told].at
    return max(at for at in switch.gate.bytes_at if at <= known)


async def _start(services: ExitStack, lab: Connections, session: aiohttp.ClientSession) -> str:
    """All processes of a lab but the agent; the façade's URL."""
    port = free_port()
    for module in ("consumers.description_writer", "consumers.outbox_relay", "consumers.watchdog"):
        services.enter_context(running(module, lab))
    services.enter_context(running("consumers.facade", lab, "--port", str(port)))
    base = f"http://127.0.0.1:{port}"
    await until_ready(session, base)
    return base


def _agent(
    lab: Connections, folder: Path, switch: FakeEdgeSwitch, url: str | None
) -> AbstractContextManager[object]:
    """With a URL it reaches nothing but the façade there."""
    config = folder / "powercycle.json5"
    config.write_text(json.dumps({"edgeswitch": {"bench": _entry(switch)}}))
    config.chmod(0o600)
    return running(
        "consumers.powercycle_agent",
        None if url else lab,
        *("--name", "bench", "--config", str(config), "--state-dir", str(folder / "state")),
        *(("--url", url) if url else ()),
    )


@asynccontextmanager
async def _switch() -> AsyncIterator[FakeEdgeSwitch]:
    switch = FakeEdgeSwitch()
    await switch.start()
    try:
        yield switch
    finally:
        await switch.stop()


def _entry(switch: FakeEdgeSwitch) -> dict[str, Any]:
    return {
        "address": "127.0.0.1",
        "ssh_port": switch.port,
        "user": USER,
        "password": PASSWORD,
        "host_key": switch.host_key.get_fingerprint(),
        "ports": {f"bench-{number}": number for number in range(1, MACHINES + 1)},
        "delay": _OFF_FOR_S,
        "soft_reboot": False,
    }
