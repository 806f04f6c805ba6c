"""The lab over the façade's HTTP: for racks from which neither broker nor database can be reached."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from pydantic import ValidationError

from consumers.powercycle_agent.drivers.reasons import plainly
from pipeline import logs
from pipeline.errors import Misconfigured, Overloaded, Rejected, Retryable
from pipeline.facade_access import Token
from pipeline.retry import Backoff
from pipeline.sse import EventStream, ServerSentEvent
from schemas.api import LeaseState
from schemas.power import PowerCommand, PowerRecord, PowerResult, PowerStatus
from schemas.wire import explain

log = logs.get_logger()

_BASE: Final = "/api/v1/power"
_WATCH: Final = f"{_BASE}/watch"
_COMMANDS: Final = f"{_BASE}/commands"
_RESULTS: Final = f"{_BASE}/results"
_EVENT: Final = "command"

_REQUEST_TIME: Final = aiohttp.ClientTimeout(total=20, sock_connect=10)
_STREAM_TIME: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=90)
"""The façade says something every half minute; a stream without it is dead."""
_PAGE: Final = 100
"""Records with the longest texts that there can be fit into an answer by this number."""
_MOST_PAGES: Final = 1000
"""More than there are machines in the largest labs, each with one pending command."""
_LATELY: Final = 1000
_AT_ONCE: Final = 100
_LARGEST: Final = 16 * 1024 * 1024
_LONGEST_EVENT: Final = 256 * 1024
_SHOWN: Final = 300


class FacadeUnavailable(Retryable):
    """The façade cannot be reached, cannot answer now, or will not have us until a person has mended that."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the façade is, and what proves who we are. A token's file is read for every request, so that it can be replaced."""

    url: str
    token: str = ""
    token_file: Path | None = None

    def __repr__(self) -> str:
        return f"Access({self.url}, token_file={self.token_file})"

    def header(self) -> dict[str, str]:
        """Header to send; none without a token. Raises `FacadeUnavailable` when the file is not as it should be."""
        try:
            return Token(self.token, self.token_file).header()
        except Misconfigured as error:  # being replaced, perhaps
            raise FacadeUnavailable(str(error)) from error


@asynccontextmanager
async def answered(
    session: aiohttp.ClientSession,
    access: Access,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """What the façade answers, whatever it is. Raises `FacadeUnavailable`, also while the answer is read."""
    sent = {**(headers or {}), **access.header()}
    try:
        async with session.request(
            method, access.url + path, headers=sent, allow_redirects=False, **options
        ) as answer:
            yield answer
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise FacadeUnavailable(f"{access.url}{path}: {plainly(error)}") from error


class HttpControl:
    """`control.ControlPlane` over HTTP. Redirects are not followed: they lead to pages for people."""

    def __init__(self, session: aiohttp.ClientSession, access: Access) -> None:
        self._session = session
        self._access = access

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[PowerCommand]]:
        """See the protocol. After a break, what waits to be begun is told once more."""
        async with self._stream() as first:
            yield self._commands(first)

    async def pending(self) -> Sequence[PowerRecord]:
        """See the protocol. Pages go from the newest back, so whatever is ordered meanwhile shifts none."""
        return [record async for record in self._records("pending", _MOST_PAGES)][::-1]

    async def ended_lately(self) -> Sequence[PowerRecord]:
        """See the protocol."""
        return [record async for record in self._records("ended", _LATELY // _PAGE)]

    async def _records(self, state: str, most_pages: int) -> AsyncIterator[PowerRecord]:
        """Newest first, read page by page."""
        query = {"state": state, "limit": str(_PAGE)}
        for _ in range(most_pages):
            page, next_before = _page(await self._ask("GET", _COMMANDS, params=query))
            for record in page:
                yield record
            if next_before is None:
                return
            if next_before >= query.get("before", "~"):
                raise FacadeUnavailable(f"{_COMMANDS} answers with the same page again and again")
            query["before"] = next_before
        if state == "pending":
            log.error("pending_not_read_to_the_end", read=most_pages * _PAGE, note="the oldest wait unheard")

    async def report(self, results: Sequence[PowerResult]) -> None:
        """See the protocol. Raises `Rejected` for what the façade will never take."""
        for start in range(0, len(results), _AT_ONCE):
            some = results[start : start + _AT_ONCE]
            body = b"[" + b",".join(result.model_dump_json().encode() for result in some) + b"]"
            async with self._request(
                "POST", _RESULTS, data=body, headers={"Content-Type": "application/json"}
            ) as answer:
                await answer.read()

    async def acquire(self, name: str, owner: str, *, seconds: float) -> bool:
        """See the protocol."""
        body = {"owner": owner, "seconds": float(seconds)}
        return _is_held(await self._ask("PUT", self._lease(name), json=body))

    async def release(self, name: str, owner: str) -> None:
        """See the protocol."""
        await self._ask("DELETE", self._lease(name), json={"owner": owner})

    async def _commands(self, first: AsyncIterator[ServerSentEvent]) -> AsyncIterator[PowerCommand]:
        async for command in _read(first):
            yield command
        backoff = Backoff()
        while True:
            try:
                async with self._stream() as events:
                    backoff.reset()
                    for record in await self.pending():
                        if record.status is PowerStatus.QUEUED:  # what has been begun is not new to everybody
                            yield record.command
                    async for command in _read(events):
                        yield command
            except Retryable as error:
                log.warning("commands_not_heard", reason=str(error))
            await asyncio.sleep(backoff.next())

    @asynccontextmanager
    async def _stream(self) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
        headers = {"Accept": "text/event-stream"}
        async with self._request("GET", _WATCH, headers=headers, timeout=_STREAM_TIME) as answer:
            if answer.content_type != "text/event-stream":
                raise FacadeUnavailable(f"{_WATCH} answered with no event stream: is --url a façade's?")
            yield _events(answer)

    async def _ask(self, method: str, path: str, **options: Any) -> bytes:
        async with self._request(method, path, **options) as answer:
            return await read_bounded(answer)

    @asynccontextmanager
    async def _request(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful answer. Raises `Rejected` for a body that is wrong, and `Retryable`s for all else."""
        options.setdefault("timeout", _REQUEST_TIME)
        async with answered(self._session, self._access, method, path, **options) as answer:
            await _check(answer, path)
            yield answer

    @staticmethod
    def _lease(name: str) -> str:
        return f"{_BASE}/leases/{quote(name, safe='')}"


def _page(body: bytes) -> tuple[list[PowerRecord], str | None]:
    """Records, and behind which to go on. Each is read by itself: a newer façade may say more of it than we know."""
    try:
        document = json.loads(body)
        next_before = document["next_before"]
        records = [PowerRecord.model_validate(each) for each in document["commands"]]
    except (ValueError, KeyError, TypeError) as error:
        raise FacadeUnavailable(
            f"{_COMMANDS} was not answered with commands: is --url a façade's?"
        ) from error
    return records, next_before if isinstance(next_before, str) else None


def _is_held(body: bytes) -> bool:
    try:
        return LeaseState.model_validate_json(body).held
    except ValidationError as error:
        raise FacadeUnavailable("the question for the lease was not answered as it should be") from error


async def _check(answer: aiohttp.ClientResponse, path: str) -> None:
    if 200 <= answer.status < 300:
        return
    reason = f"{path} answered {answer.status}: {told_by(answer, await answer.content.read(_SHOWN * 4))}"
    if answer.status == 429:
        raise Overloaded(reason)
    if answer.status in {400, 413, 422}:
        raise Rejected(reason)
    raise FacadeUnavailable(reason)


def told_by(answer: aiohttp.ClientResponse, body: bytes) -> str:
    """What a problem document says, and what to do about it where that is known; or the status."""
    if answer.status < HTTPStatus.BAD_REQUEST:
        return f"{answer.url} sends us on to {answer.headers.get('Location', 'another address')}: give that as --url"
    if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        advice = ": give an API token that may do this (--token-file, or LABKEEPER_TOKEN)"
    else:
        advice = ""
    try:
        document = json.loads(body)
        said = str(document.get("detail") or document.get("title") or "")
    except (ValueError, AttributeError, RecursionError):
        said = ""
    return (said[:_SHOWN] or f"{answer.status} {answer.reason or ''}".rstrip()) + advice


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[ServerSentEvent]:
    stream = EventStream(longest_event=_LONGEST_EVENT)
    async for chunk in answer.content.iter_any():
        try:
            for event in stream.feed(chunk):
                yield event
        except Rejected as error:
            raise FacadeUnavailable(f"{_WATCH} sent too long an event") from error


async def _read(events: AsyncIterator[ServerSentEvent]) -> AsyncIterator[PowerCommand]:
    """Commands until the stream ends or breaks."""
    try:
        async for event in events:
            if event.kind != _EVENT:
                continue
            try:
                yield PowerCommand.model_validate_json(event.data)
            except ValidationError as error:
                log.error("command_not_understood", reason=explain(error))  # noqa: TRY400  # no bug
    except (aiohttp.ClientError, TimeoutError, OSError, Retryable) as error:
        log.warning("commands_not_heard", reason=plainly(error))


async def read_bounded(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > _LARGEST:
            raise FacadeUnavailable(f"{answer.url.path} answered with more than {_LARGEST} bytes")
    return bytes(body)
