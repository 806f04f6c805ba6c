"""A façade on a loopback port, with store and broker in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from consumers.facade.app import make_app
from consumers.facade.auth import authenticator
from consumers.facade.keys import FLEET
from consumers.facade.settings import FacadeSettings
from pipeline.broker.memory import MemoryBroker
from pipeline.broker.protocol import Outgoing
from pipeline.clock import ManualClock
from pipeline.store.memory import MemoryStore
from pipeline.store.protocol import Change
from schemas.description import Description
from schemas.topics import MACHINE_CHANGES, MACHINE_EVENTS

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DEADLINE_S = 60.0


@dataclass
class Lab:
    """Everything around one façade."""

    store: MemoryStore
    broker: MemoryBroker
    clock: ManualClock
    app: web.Application
    url: str
    http: aiohttp.ClientSession

    async def machine(self, machine_id: str = "rack4-07", **fields: Any) -> Description:
        """A machine with these fields."""
        updated = await self.store.update(machine_id, changing(**fields), now=NOW, create=True)
        await self.relay()
        fleet = self.app[FLEET]
        await until(
            lambda: (seen := fleet.get(machine_id)) is not None and seen.version >= updated.after.row_version
        )
        return updated.after

    async def delete(self, machine_id: str = "rack4-07") -> None:
        """Delete it, as another process would."""
        await self.store.delete(machine_id, now=NOW, who="somebody")
        await self.relay()
        await until(lambda: self.app[FLEET].get(machine_id) is None)

    async def relay(self) -> None:
        """What the outbox relay does."""
        rows = await self.store.take(limit=1000)
        await self.broker.publish([row.message for row in rows])
        await self.store.remove(rows)

    async def published_events(self) -> list[Any]:
        """What lies in `machine.events`."""
        return list(await self.broker.fetch(MACHINE_EVENTS))

    async def publish_change(self, key: str, value: bytes, **headers: str) -> None:
        """A message of `machine.changes`."""
        await self.broker.publish([Outgoing(MACHINE_CHANGES, key, value, headers)])


def changing(**fields: Any) -> Change:
    """A change that sets these fields."""

    def change(before: Description) -> Description:
        return before.model_copy(update=fields or {"last_updated": NOW})

    return change


@contextlib.asynccontextmanager
async def running(
    *,
    store: MemoryStore | None = None,
    broker: MemoryBroker | None = None,
    headers: dict[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[Lab]:
    """A façade, and a client whose requests have these headers."""
    facade_settings = FacadeSettings(port=0, **settings)
    clock = ManualClock(NOW)
    store = store or MemoryStore(clock=clock)
    broker = broker or MemoryBroker()
    app = make_app(
        store=store,
        broker=broker,
        auth=authenticator(facade_settings),
        settings=facade_settings,
        clock=clock,
    )
    runner = web.AppRunner(
        app, access_log=None, max_line_size=16_384, max_field_size=16_384, shutdown_timeout=2
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession(
            url, headers=headers, timeout=aiohttp.ClientTimeout(DEADLINE_S)
        ) as http:
            yield Lab(store, broker, clock, app, url, http)
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is about to happen."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


@dataclass
class SseMessage:
    """One message as a browser would see it."""

    event: str
    data: str
    id: str


@dataclass
class SseClient:
    """Reads a stream message by message."""

    response: aiohttp.ClientResponse
    comments: int = 0
    fields: list[str] = field(default_factory=list)

    async def next(self) -> SseMessage:
        """The next message; raises EOFError at the end."""
        found: dict[str, str] = {}
        async with asyncio.timeout(DEADLINE_S):
            while True:
                line = (await self.response.content.readline()).decode()
                if not line:
                    raise EOFError
                line = line.rstrip("\n")
                self.fields.append(line)
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    name, _, value = line.partition(": ")
                    found[name] = value
                elif "data" in found:
                    return SseMessage(found.get("event", "message"), found["data"], found.get("id", ""))
                else:
                    found = {}

    async def until(self, event: str) -> list[SseMessage]:
        """All messages up to and including the first of this kind."""
        messages = [await self.next()]
        while messages[-1].event != event:
            messages.append(await self.next())
        return messages


@contextlib.asynccontextmanager
async def watching(lab: Lab, path: str, last_event_id: str | None = None) -> AsyncIterator[SseClient]:
    """An open stream."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    async with lab.http.get(path, headers=headers, timeout=aiohttp.ClientTimeout(None)) as response:
        assert response.status == 200, await response.text()
        yield SseClient(response)
