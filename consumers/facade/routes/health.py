"""Whether the façade lives, whether it can serve, and its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from consumers.facade.answers import COMPRESS_FROM, answer
from consumers.facade.auth import Access
from consumers.facade.keys import BROKER, CLOCK, FLEET, METRICS, PROGRESS, STORE
from consumers.facade.routing import ANY, Route
from pipeline.errors import Retryable
from pipeline.store.protocol import PROGRESS_GAP

_PATIENCE_S: Final = 2.0


async def healthz(_request: web.Request) -> web.Response:
    """The process answers."""
    return web.Response()


async def readyz(request: web.Request) -> web.Response:
    """Store and broker answer, and the machines are loaded. Beside it, how the writer is: another façade would not help."""
    app = request.app
    store, broker, writer = await asyncio.gather(
        _state_of(app[STORE].check()), _state_of(app[BROKER].check()), _writer(app)
    )
    machines = "ok" if app[FLEET].loaded.is_set() else "not loaded yet"
    parts = {"store": store, "broker": broker, "machines": machines}
    ready = all(state == "ok" for state in parts.values())
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    return answer(
        orjson.dumps({"ready": ready, **parts, "writer": writer}),
        status=status,
        headers={"Cache-Control": "no-store"},
    )


async def _state_of(check: Awaitable[None]) -> str:
    try:
        await asyncio.wait_for(check, _PATIENCE_S)
    except (Retryable, TimeoutError):
        return "out of reach"
    return "ok"


async def _writer(app: web.Application) -> str:
    """Whether some writer has been at work lately, and if not, since when none has."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            told = await app[PROGRESS].progress()
    except (Retryable, TimeoutError):
        return "unknown"
    last = max((each.seen_at for each in told if each.service == "writer"), default=None)
    if last is None:
        return "never seen"
    ago = app[CLOCK].now() - last
    return "ok" if ago <= PROGRESS_GAP else f"last seen {ago.total_seconds():.0f} s ago"


async def metrics(request: web.Request) -> web.Response:
    """Prometheus's text format."""
    text = await asyncio.to_thread(generate_latest, request.app[METRICS])
    response = web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})
    if len(text) >= COMPRESS_FROM:
        response.enable_compression()
    return response


ROUTES: Final = (
    Route(
        method=ANY,
        path="/healthz",
        handler=healthz,
        access=Access.PUBLIC,
        summary="The process answers",
        tag="health",
        content_type="text/plain",
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=readyz,
        access=Access.PUBLIC,
        summary="Store and broker answer, and the machines are loaded",
        tag="health",
        answer=dict[str, bool | str],
        errors=(HTTPStatus.SERVICE_UNAVAILABLE,),
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=metrics,
        access=Access.FLEET,
        summary="Metrics for Prometheus, with gauges of every machine",
        tag="health",
        content_type="text/plain",
    ),
)
