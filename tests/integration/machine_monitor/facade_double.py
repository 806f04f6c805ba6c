"""A façade reduced to what a monitor speaks to, on a real port, which can go away and come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from schemas.description import Description
from schemas.event import Event


class FacadeDouble:
    """Takes events, tells Descriptions, sends hints."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.tokens: set[str | None] = set()
        self.description: Description | None = Description(attached_device="nodevice", row_version=1)
        """None: the machine is unknown."""
        self.description_status = 200
        self.event_status: Callable[[Event], int] = lambda _event: 200
        """What an event is answered with; only 2xx takes it."""
        self.asked = 0
        """Requests for the Description."""
        self.last_event_ids: list[str | None] = []
        self._streams: set[web.StreamResponse] = set()
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def come(self) -> None:
        """Listen, on the same port as before."""
        app = web.Application()
        app.router.add_post("/json/v1/machine/event/", self._event)
        app.router.add_get("/json/v1/machine/description/{id}", self._description)
        app.router.add_get("/json/v1/machine/sse/description/updated", self._hints)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = self._runner.addresses[0][1]

    async def go(self) -> None:
        """Hang up on everybody."""
        assert self._runner is not None
        await self._runner.cleanup()

    async def say(self, data: str, *, number: int) -> None:
        """Send a message to everybody who listens."""
        for stream in list(self._streams):
            await stream.write(f"id: {number}\ndata: {data}\n\n".encode())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that requests bring about."""
        async with asyncio.timeout(60):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def got(self, count: int) -> list[Event]:
        """The events, as soon as there are so many."""
        await self.until(lambda: len(self.events) >= count)
        return self.events

    async def listened(self) -> None:
        """Wait until somebody listens."""
        await self.until(lambda: bool(self._streams))

    async def _event(self, request: web.Request) -> web.Response:
        self.tokens.add(request.headers.get("Authorization"))
        assert request.content_type == "application/json"
        event = Event.model_validate_json(await request.read())
        status = self.event_status(event)
        if 200 <= status < 300:
            self.events.append(event)
        self._changed.set()
        return web.Response(status=status, text="no such thing" if status == 400 else "")

    async def _description(self, request: web.Request) -> web.Response:
        self.tokens.add(request.headers.get("Authorization"))
        self.asked += 1
        self._changed.set()
        if self.description is None:
            return web.Response(status=404)
        return web.Response(
            status=self.description_status,
            text=self.description.model_dump_json(),
            content_type="application/json",
        )

    async def _hints(self, request: web.Request) -> web.StreamResponse:
        assert request.query["stream"]
        self.last_event_ids.append(request.headers.get("Last-Event-ID"))
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        self._streams.add(stream)
        self._changed.set()
        try:
            await asyncio.Event().wait()
        finally:
            self._streams.discard(stream)
        return stream
