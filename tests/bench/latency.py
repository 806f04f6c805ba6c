"""From "the façade accepted the event" to "an SSE client has seen the change", with many clients and a steady load."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import aiohttp

from pipeline.clock import SystemClock
from pipeline.settings import Connections
from producers.simulator.load import EventSize, load_events, load_ids
from tests.bench.lab import running

_SEQUENCE = re.compile(rb'"MonitorSequence":(\d+)')
_MACHINE = re.compile(rb'"id":\["([^"]+)"\]')
_POSTERS = 32


@dataclass(frozen=True, slots=True)
class LatencyLoad:
    """How much of what."""

    machines: int = 990
    """Each has one client on its own stream ..."""
    dashboards: int = 10
    """... and so many clients watch the whole fleet."""
    rate: int = 500
    """Events per second."""
    seconds: float = 20


@dataclass(frozen=True, slots=True)
class LatencyResult:
    """Milliseconds, and how much was seen."""

    p50_ms: float
    p99_ms: float
    sent: int
    seen: int
    achieved_rate: float


@dataclass(slots=True)
class _Ledger:
    accepted: dict[tuple[str, int], float] = field(default_factory=dict)
    seen: dict[tuple[str, int], list[float]] = field(default_factory=dict)


async def measure(connections: Connections, load: LatencyLoad) -> LatencyResult:
    """Start writer and façade, connect the clients, post at the rate, wait until everything was seen."""
    port = free_port()
    with (
        running("consumers.description_writer", connections),
        running("consumers.facade", connections, "--port", str(port)),
    ):
        base = f"http://127.0.0.1:{port}"
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None)
        ) as session:
            await until_ready(session, base)
            ledger = _Ledger()
            events = load_events(load.machines, EventSize.SMALL, start_time=SystemClock().now())
            for _, value in islice(
                events, load.machines
            ):  # the machines exist before their streams are opened
                await _post_one(session, base, value)
            clients = await _connect(session, base, load, ledger)
            began = time.monotonic()
            await _post(session, base, load, events, ledger)
            elapsed = time.monotonic() - began
            await _until_seen(ledger, load)
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
    delays = sorted(
        at - ledger.accepted[event]
        for event, moments in ledger.seen.items()
        for at in moments
        if event in ledger.accepted
    )
    return LatencyResult(
        p50_ms=delays[len(delays) // 2] * 1000,
        p99_ms=delays[int(len(delays) * 0.99)] * 1000,
        sent=len(ledger.accepted),
        seen=sum(1 for event in ledger.accepted if event in ledger.seen),
        achieved_rate=len(ledger.accepted) / elapsed,
    )


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until_ready(session: aiohttp.ClientSession, base: str) -> None:
    """Wait until the façade there says that it is."""
    async with asyncio.timeout(60):
        while True:
            try:
                async with session.get(f"{base}/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.1)


async def _post_one(session: aiohttp.ClientSession, base: str, value: bytes) -> None:
    async with session.post(
        f"{base}/json/v1/machine/event/", data=value, headers={"Content-Type": "application/json"}
    ) as response:
        response.raise_for_status()


async def _connect(
    session: aiohttp.ClientSession, base: str, load: LatencyLoad, ledger: _Ledger
) -> list[asyncio.Task[None]]:
    connected = asyncio.Semaphore(0)
    urls = [
        f"{base}/json/v1/machine/sse/description/updated?stream={machine}"
        for machine in load_ids(load.machines)
    ] + [f"{base}/api/v1/machines/watch"] * load.dashboards
    clients = [asyncio.create_task(_watch(session, url, ledger, connected)) for url in urls]
    async with asyncio.timeout(60):
        for _ in clients:
            await connected.acquire()
    return clients


async def _watch(
    session: aiohttp.ClientSession, url: str, ledger: _Ledger, connected: asyncio.Semaphore
) -> None:
    async with session.get(url) as response:
        connected.release()
        rest = b""
        async for chunk in response.content.iter_any():
            now = time.monotonic()
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.startswith(b"data: {") and (event := _named(line)) is not None:
                    ledger.seen.setdefault(event, []).append(now)


def _named(line: bytes) -> tuple[str, int] | None:
    machine, sequence = _MACHINE.search(line), _SEQUENCE.search(line)
    return (machine[1].decode(), int(sequence[1])) if machine and sequence else None


async def _post(
    session: aiohttp.ClientSession,
    base: str,
    load: LatencyLoad,
    events: Iterator[tuple[str, bytes]],
    ledger: _Ledger,
) -> None:
    """Post at a steady rate; an event that is late does not delay those behind it."""
    total = int(load.rate * load.seconds)
    places = asyncio.Semaphore(_POSTERS)
    began = time.monotonic()

    async def post(machine: str, sequence: int, value: bytes) -> None:
        try:
            await _post_one(session, base, value)
            ledger.accepted[machine, sequence] = time.monotonic()
        finally:
            places.release()

    async with asyncio.TaskGroup() as tasks:
        for number in range(total):
            machine, value = next(events)
            await asyncio.sleep(max(0.0, began + number / load.rate - time.monotonic()))
            await places.acquire()
            tasks.create_task(post(machine, 1 + number // load.machines, value))


async def _until_seen(ledger: _Ledger, load: LatencyLoad) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if all(len(ledger.seen.get(event, ())) >= 1 + load.dashboards for event in ledger.accepted):
            return
        await asyncio.sleep(0.05)
