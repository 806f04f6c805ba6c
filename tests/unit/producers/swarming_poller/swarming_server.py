"""A Swarming server on loopback that lists bots as luci-go's does: pRPC in JSON, guarded, paged, with tokens and limits."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

PATH = "/prpc/swarming.v2.Bots/ListBots"


@dataclass
class SwarmingServer:
    """What it has, what it was asked, and how it shall misbehave."""

    bots: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By pool."""
    token: str | None = None
    page: int = 1000
    fails_for: set[str] = field(default_factory=set)
    """Pools whose bots it cannot list now."""
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    """Given instead of the next answers."""
    asked: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    """When (monotonic), and the body."""
    url: str = ""

    async def list_bots(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        self.asked.append((time.monotonic(), wanted))
        if self.answers:
            status, headers, body = self.answers.pop(0)
            return web.Response(status=status, headers=headers, body=body)
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=403, headers={"X-Prpc-Grpc-Code": "7"}, text="no access\n")
        [dimension] = wanted["dimensions"]
        assert dimension["key"] == "pool"
        if dimension["value"] in self.fails_for:
            return web.Response(status=500)
        found = self.bots.get(dimension["value"], [])
        first = int(wanted.get("cursor") or 0)
        size = min(self.page, wanted["limit"])
        answer: dict[str, Any] = {"items": found[first : first + size], "deathTimeout": 600}
        if first + size < len(found):
            answer["cursor"] = str(first + size)
        return web.Response(
            body=b")]}'\n" + json.dumps(answer).encode(),
            headers={"X-Prpc-Grpc-Code": "0", "Content-Type": "application/json"},
        )


@asynccontextmanager
async def swarming_server(**fields: Any) -> AsyncIterator[SwarmingServer]:
    swarming = SwarmingServer(**fields)
    app = web.Application()
    app.router.add_post(PATH, swarming.list_bots)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    swarming.url = str(server.make_url("")).rstrip("/")
    try:
        yield swarming
    finally:
        await server.close()


def bot(name: str, **fields: Any) -> dict[str, Any]:
    """A bot as the server writes it: what is false or empty is left out."""
    return {
        "botId": name,
        "dimensions": [{"key": "id", "value": [name]}, {"key": "os", "value": ["Linux", "Debian"]}],
        "lastSeenTs": "2026-03-01T11:40:00.123456Z",
        "state": "{}",
        "unknownField": 7,
        **fields,
    }
