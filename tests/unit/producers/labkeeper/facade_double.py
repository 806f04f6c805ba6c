"""A façade on loopback that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from producers.labkeeper.machine_view import id_of

Json = dict[str, Any]


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    query: list[tuple[str, str]]
    body: Any
    token: str | None
    last_event_id: str | None


@dataclass
class FacadeDouble:
    """Keeps machines in a dictionary."""

    url: str = ""
    machines: dict[str, Json] = field(default_factory=dict)
    history: list[Json] = field(default_factory=list)
    stats: list[Json] = field(default_factory=list)
    """How the fleet does, now and over time."""
    page: int = 2
    """Entries in one page at most, whatever the client asks for."""
    asked: list[Asked] = field(default_factory=list)
    refusal: Callable[[], web.Response] | None = None
    """When set, every request gets it."""
    readiness: Callable[[], web.Response] = web.Response
    """What the readiness probe is told."""
    refusals_between: list[web.Response] = field(default_factory=list)
    """What the next connections to a stream get after the first."""
    streams: list[Sequence[str]] = field(default_factory=list)
    """What each connection to a stream gets to read, before it is cut; the last one stays open."""

    def add(self, *machines: Json) -> None:
        self.machines.update((id_of(machine), machine) for machine in machines)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read() or b"null")
        self.asked.append(
            Asked(
                request.method,
                request.path,
                list(request.query.items()),
                body,
                request.headers.get("Authorization"),
                request.headers.get("Last-Event-ID"),
            )
        )
        if self.refusal is not None:
            return self.refusal()
        if request.path.endswith("/watch"):
            return await self._stream(request)
        routes: dict[str, Callable[[web.Request], web.Response]] = {
            "/readyz": lambda _: self.readiness(),
            "/api/v1/whoami": lambda _: web.json_response({"user": "ada@example.org", "role": "operator"}),
            "/api/v1/machines": self._list,
            "/api/v1/fleet/stats": lambda _: web.json_response({"stats": self.stats}),
            "/api/v1/fleet/stats/history": lambda _: web.json_response({"stats": self.stats}),
        }
        if request.path in routes:
            return routes[request.path](request)
        return self._one(request)

    def _list(self, request: web.Request) -> web.Response:
        start = int(request.query.get("cursor", "0"))
        end = start + min(self.page, int(request.query["limit"]))
        everything = list(self.machines.values())
        following = str(end) if end < len(everything) else None
        return web.json_response({"machines": everything[start:end], "next_cursor": following})

    def _one(self, request: web.Request) -> web.Response:
        _, _, _, kind, name, *what = request.path.split("/")
        assert kind == "machines"
        if what == ["history"]:
            start = int(request.query.get("before", "0"))
            end = start + min(self.page, int(request.query["limit"]))
            following = str(end) if end < len(self.history) else None
            return web.json_response({"entries": self.history[start:end], "next_before": following})
        if name not in self.machines:
            return problem(404, f"there is no machine {name!r}")
        if request.method == "DELETE" and not what:
            del self.machines[name]
            return web.Response(status=204)
        return web.json_response(self.machines[name])

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        first = sum(asked.path.endswith("/watch") for asked in self.asked) == 1
        if self.refusals_between and not first:
            return self.refusals_between.pop(0)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in self.streams.pop(0):
            await response.write(part.encode())
        if not self.streams:
            await request.app[STOP].wait()
        return response


STOP = web.AppKey("stop", asyncio.Event)


def problem(status: int, detail: str, **more: Any) -> web.Response:
    """A problem document."""
    body = {"type": "about:blank", "title": "no", "status": status, "detail": detail, **more}
    return web.Response(status=status, body=json.dumps(body), content_type="application/problem+json")


def sse(kind: str, data: Any, *, id: int) -> str:  # noqa: A002  # the field's name
    """A server-sent event."""
    return f"id: {id}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"


@asynccontextmanager
async def running(double: FacadeDouble) -> AsyncIterator[FacadeDouble]:
    """Serve it on a free port of loopback."""
    async with _serving(double.answer) as url:
        double.url = url
        yield double


@asynccontextmanager
async def _serving(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app[STOP] = asyncio.Event()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        app[STOP].set()
        await runner.cleanup()
