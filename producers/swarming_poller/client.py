"""Asks a Swarming server for its bots: pRPC in JSON, by pages, and never faster than agreed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final

import aiohttp
from pydantic import ValidationError

from pipeline.errors import Misconfigured, Overloaded, Rejected, Retryable
from producers.swarming_poller.bots import Bot, BotPage
from producers.swarming_poller.settings import PollerSettings, PoolOfBots
from schemas.wire import explain

_METHOD: Final = "/prpc/swarming.v2.Bots/ListBots"
_GUARD: Final = b")]}'"
"""Stands before pRPC's JSON, so that no browser takes it for a script."""
_MAX_PAGES: Final = 1000
"""A server that always has one more page would keep us for ever."""
_LONGEST_WAIT_S: Final = 60.0
_MAX_ANSWER: Final = 64 * 1024 * 1024
"""Bytes. A thousand bots with long states have a tenth of that."""


class SwarmingUnavailable(Retryable):
    """The server cannot be reached, or has trouble of its own."""


class Pace:
    """So many requests a second, and none while the server wants to be left alone."""

    def __init__(self, per_second: float) -> None:
        self._apart_s = 1 / per_second
        self._next = 0.0

    async def wait(self) -> None:
        """Return when the next request may go."""
        now = time.monotonic()
        at = max(now, self._next)
        self._next = at + self._apart_s
        await asyncio.sleep(at - now)

    def rest(self, seconds: float) -> None:
        """Send nothing for so long."""
        self._next = max(self._next, time.monotonic() + seconds)


class SwarmingClient:
    """Talks to one server."""

    def __init__(self, session: aiohttp.ClientSession, server: str, settings: PollerSettings) -> None:
        self._session = session
        self._url = server + _METHOD
        self._settings = settings
        self._pace = Pace(settings.requests_per_second)
        self._timeout = aiohttp.ClientTimeout(total=settings.request_timeout.total_seconds())

    async def bots(self, pool: PoolOfBots, token: str | None) -> AsyncIterator[Bot]:
        """All bots of a pool that are not deleted, as the pages come.

        Raises `SwarmingUnavailable`, `Overloaded`, `Misconfigured` when the server wants another token, and `Rejected` when
        what answers is no Swarming server.
        """
        cursor = ""
        for _ in range(_MAX_PAGES):
            page = await self._page(pool, cursor, token)
            for bot in page.items:
                if not bot.deleted:
                    yield bot
            if not page.cursor or page.cursor == cursor:
                return
            cursor = page.cursor
        raise Rejected(f"{pool} has more than {_MAX_PAGES} pages of bots: is that a Swarming server?")

    async def _page(self, pool: PoolOfBots, cursor: str, token: str | None) -> BotPage:
        await self._pace.wait()
        wanted = {
            "limit": self._settings.page,
            "cursor": cursor,
            "dimensions": [{"key": "pool", "value": pool.pool}],
        }
        headers = {"Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            async with self._session.post(
                self._url, json=wanted, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as answer:
                content = await self._content(answer)
                self._check(answer, content, pool)
        except (aiohttp.ClientError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            raise SwarmingUnavailable(f"{pool.server} cannot be reached: {why}") from error
        try:
            return BotPage.model_validate_json(content.removeprefix(_GUARD))
        except ValidationError as error:
            raise Rejected(
                f"{pool.server} answers something that is no list of bots: {explain(error)}"
            ) from error

    async def _content(self, answer: aiohttp.ClientResponse) -> bytes:
        """All of it: a read of aiohttp's gives what has come so far."""
        content = bytearray()
        async for piece in answer.content.iter_any():
            content += piece
            if len(content) > _MAX_ANSWER:
                raise Rejected(
                    f"{self._url} answers more than {_MAX_ANSWER} bytes: is that a Swarming server?"
                )
        return bytes(content)

    def _check(self, answer: aiohttp.ClientResponse, content: bytes, pool: PoolOfBots) -> None:
        if answer.status == HTTPStatus.OK:
            return
        said = f"{pool.server} answers {answer.status} for pool {pool.pool}: {_first_line(content)}"
        if answer.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            self._pace.rest(_retry_after(answer))
            raise Overloaded(said)
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise Misconfigured(
                f"{said}. Give an access token of an account that may list this pool's bots: --token-file or --token-command"
            )
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise SwarmingUnavailable(said)
        raise Rejected(said)


def _retry_after(answer: aiohttp.ClientResponse) -> float:
    text = answer.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_WAIT_S) if text.isdecimal() else 1.0


def _first_line(content: bytes) -> str:
    return content[:300].decode(errors="replace").partition("\n")[0].strip() or "nothing"
