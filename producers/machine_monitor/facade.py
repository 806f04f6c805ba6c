"""The façade as a monitor sees it: one address, one token, three requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from pydantic import ValidationError

from pipeline.errors import MachineNotFound, Misconfigured, Overloaded, Rejected, Retryable
from pipeline.facade_access import Token, check_url
from pipeline.sse import EventStream, ServerSentEvent
from schemas.description import Description

EVENT_PATH: Final = "/json/v1/machine/event/"
DESCRIPTION_PATH: Final = "/json/v1/machine/description/"
HINTS_PATH: Final = "/json/v1/machine/sse/description/updated"

REQUEST_TIME: Final = aiohttp.ClientTimeout(total=30, sock_connect=10)
_STREAM_TIME: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=300)
"""A stream that says nothing for five minutes may be dead without our knowing: better ask anew."""
BODY_LIMIT: Final = 4 * 1024 * 1024
_SHOWN: Final = 300


class FacadeUnavailable(Retryable):
    """The façade cannot be reached, or cannot answer now."""


class Facade:
    """Speaks to one façade. Redirects are not followed: they lead to pages for people."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: Token) -> None:
        self._session = session
        self._url = check_url(url)
        self._token = token

    async def post_event(self, body: bytes) -> None:
        """Hand over an Event. Raises `Rejected` if it will never be taken, `Retryable` if it may be later."""
        async with self._request(
            "POST", EVENT_PATH, data=body, headers={"Content-Type": "application/json"}
        ) as answer:
            if 200 <= answer.status < 300:
                return
            reason = f"{EVENT_PATH} answered {answer.status}: {await _said(answer)}"
            if answer.status == 429:
                raise Overloaded(reason)
            if 400 <= answer.status < 500 and answer.status != 408:
                raise Rejected(reason)
            raise FacadeUnavailable(reason)

    async def description(self, machine_id: str) -> Description:
        """The machine's Description. Raises `MachineNotFound` or `FacadeUnavailable`."""
        path = DESCRIPTION_PATH + quote(machine_id, safe="")
        async with self._request("GET", path) as answer:
            if answer.status == 404:
                raise MachineNotFound(machine_id)
            if not 200 <= answer.status < 300:
                raise FacadeUnavailable(f"{path} answered {answer.status}: {await _said(answer)}")
            body = await _bounded(answer)
        try:
            return Description.model_validate_json(body)
        except ValidationError as error:
            raise FacadeUnavailable(f"{path} did not answer with a Description") from error

    @asynccontextmanager
    async def hints(
        self, machine_id: str, *, after: str = ""
    ) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
        """The stream of changes of one machine, after the message with that id. Raises `FacadeUnavailable`, also while it is read."""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
        async with self._request(
            "GET",
            HINTS_PATH,
            params={"stream": machine_id},
            headers=headers,
            timeout=_STREAM_TIME,
        ) as answer:
            if answer.status != 200 or answer.content_type != "text/event-stream":
                raise FacadeUnavailable(f"{HINTS_PATH} answered {answer.status}: {await _said(answer)}")
            yield _messages(answer)

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        options.setdefault("timeout", REQUEST_TIME)
        try:
            authorization = self._token.header()
        except Misconfigured as error:  # being replaced, perhaps
            raise FacadeUnavailable(str(error)) from error
        try:
            async with self._session.request(
                method,
                self._url + path,
                headers={**(headers or {}), **authorization},
                allow_redirects=False,
                **options,
            ) as answer:
                yield answer
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise FacadeUnavailable(f"{self._url}{path}: {reason}") from error


async def _messages(answer: aiohttp.ClientResponse) -> AsyncIterator[ServerSentEvent]:
    stream = EventStream(longest_event=BODY_LIMIT)
    async for chunk in answer.content.iter_any():
        try:
            for event in stream.feed(chunk):
                yield event
        except Rejected as error:
            raise FacadeUnavailable(f"{HINTS_PATH} sent too long an event") from error


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > BODY_LIMIT:
            raise FacadeUnavailable(f"{answer.url.path} answered with more than {BODY_LIMIT} bytes")
    return bytes(body)


async def _said(answer: aiohttp.ClientResponse) -> str:
    return (await answer.content.read(_SHOWN)).decode("utf-8", "replace").strip()
