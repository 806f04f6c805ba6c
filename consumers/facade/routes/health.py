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
from consumers.facade.keys import BROKER, FLEET, METRICS, STORE
from consumers.facade.routing import ANY, Route
from pipeline.errors import Retryable

_PATIENCE_S: Final = 2.0


async def healthz(_request: web.Request) -> web.Response:
    """The process answers."""
    return web.Response()


async def readyz(request: web.Request) -> web.Response:
    """Store and broker answer, and the machines are loaded."""
    app = request.app
    store, broker = await asyncio.gather(_state_of(app[STORE].check()), _state_of(app[BROKER].check()))
    machines = "ok" if app[FLEET].loaded.is_set() else "not loaded yet"
    parts = {"store": store, "broker": broker, "machines": machines}
    ready = all(state == "ok" for state in parts.values())
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    return answer(
        orjson.dumps({"ready": ready, **parts}), status=status, headers={"Cache-Control": "no-store"}
    )


async def _state_of(check: Awaitable[None]) -> str:
    try:
        await asyncio.wait_for(check, _PATIENCE_S)
    except (Retryable, TimeoutError):
        return "out of reach"
    return "ok"


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
