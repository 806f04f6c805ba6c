"""The only place that speaks HTTP: asks the façade, and turns what goes wrong into a sentence and an exit code."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Self

import aiohttp

from pipeline.command import CommandFailed, ExitCode
from pipeline.errors import BrokerUnavailable, KeyReused
from producers.labkeeper.access import Access
from producers.labkeeper.text import printable

MACHINES: Final = "/api/v1/machines"

REQUEST_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 45.0
"""A stream that says nothing for so long, not even its heartbeat of 15 s, is dead."""
PAGE: Final = 500
_LARGEST_ANSWER: Final = 128 * 1024 * 1024
"""Bytes. A page of machines with long dimensions has some 10 MB."""

Json = dict[str, Any]

_CODES: Final = {
    401: ExitCode.DENIED,
    403: ExitCode.DENIED,
    404: ExitCode.NOT_FOUND,
    408: ExitCode.TIMED_OUT,
    409: ExitCode.CONFLICT,
    412: ExitCode.CONFLICT,
    429: ExitCode.UNREACHABLE,
    502: ExitCode.UNREACHABLE,
    503: ExitCode.UNREACHABLE,
    504: ExitCode.TIMED_OUT,
}


class StreamBroken(BrokerUnavailable):
    """The stream ended or fell silent: connect again and resume."""


class FacadeClient:
    """One session with a façade. Every method raises `CommandFailed`, with the exit code that fits."""

    def __init__(self, access: Access, *, request_seconds: float = REQUEST_SECONDS) -> None:
        self._access = access
        self._request_seconds = request_seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"Accept": "application/json", "User-Agent": "labkeeper"}
        if self._access.token is not None:
            headers["Authorization"] = f"Bearer {self._access.token}"
        self._session = aiohttp.ClientSession(headers=headers, auto_decompress=True)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def check_ready(self) -> Json:
        """What a façade that is ready says of its parts; raises `CommandFailed` with what is missing when it is not (yet)."""
        async with self._request("GET", "/readyz") as response:
            content = await _body(response)
        if response.status == 503 and response.content_type == "application/json":
            parts = self._parsed(response.status, content)
            missing = [
                f"{name}: {state}" for name, state in parts.items() if name != "ready" and state != "ok"
            ]
            raise CommandFailed(
                f"{self._access.url} is up but not ready ({printable(', '.join(missing))})",
                ExitCode.UNREACHABLE,
            )
        self._check(response, content)
        is_told = response.content_type == "application/json"
        return self._parsed(response.status, content) if is_told else {}

    async def get(self, path: str, params: Sequence[tuple[str, str]] = ()) -> Json:
        """Ask for a JSON object."""
        return await self._ask("GET", path, params=params)

    async def put(self, path: str, body: Mapping[str, Any], *, idempotency_key: str | None = None) -> Json:
        """Replace something; the answer is what it is now. With a key, the same a second time does nothing more."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return await self._ask("PUT", path, body=body, headers=headers)

    async def post(self, path: str, body: Mapping[str, Any]) -> Json:
        """Make something new; the answer is what was made."""
        return await self._ask("POST", path, body=body)

    async def delete(self, path: str) -> Json:
        """Remove something; the answer is the machine as it is now, or empty."""
        return await self._ask("DELETE", path)

    async def machines(
        self, filters: Sequence[tuple[str, str]] = (), *, limit: int | None = None
    ) -> AsyncIterator[Json]:
        """Machines that pass the filters, page by page."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            params = [*filters, ("limit", str(size)), *([("cursor", cursor)] if cursor else [])]
            page = await self.get(MACHINES, params)
            machines = _list_in(page, "machines")
            for machine in machines[:left]:
                yield machine
            left = None if left is None else left - len(machines)
            cursor = page.get("next_cursor")
            if not cursor:
                return

    async def history(self, machine_id: str, *, limit: int | None) -> AsyncIterator[Json]:
        """A machine's history, newest first, page by page."""
        before: str | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            params = [("limit", str(size)), *([("before", before)] if before else [])]
            page = await self.get(f"{MACHINES}/{machine_id}/history", params)
            entries = _list_in(page, "entries")
            for entry in entries[:left]:
                yield entry
            left = None if left is None else left - len(entries)
            before = page.get("next_before")
            if not before:
                return

    @asynccontextmanager
    async def stream(self, path: str, *, last_event_id: str | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an event stream. Its chunks raise `StreamBroken` when it ends or falls silent."""
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        with self._explained():
            response = await self._open.get(
                self._access.url + path, headers=headers, timeout=timeout, allow_redirects=False
            )
        try:
            if response.status != 200 or response.content_type != "text/event-stream":
                with self._explained():
                    self._check(response, await _body(response))
                raise self._stranger(response.status)
            yield _chunks(response)
        finally:
            response.close()

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Sequence[tuple[str, str]] = (),
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        async with self._request(method, path, params=params, body=body, headers=headers) as response:
            content = await _body(response)
        self._check(response, content)
        return self._parsed(response.status, content)

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Sequence[tuple[str, str]] = (),
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=self._request_seconds, sock_connect=CONNECT_SECONDS)
        with self._explained():
            async with self._open.request(
                method,
                self._access.url + path,
                params=list(params),
                json=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,  # would carry the token elsewhere
            ) as response:
                yield response

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use the client as a context manager")
        return self._session

    def _check(self, response: aiohttp.ClientResponse, content: bytes) -> None:
        """Raise what an answer other than 2xx means."""
        if response.status < 300:
            return
        if response.status < 400:
            target = printable(response.headers.get("Location", "another address"))
            raise CommandFailed(f"{self._access.url} sends us on to {target}: give that as --url")
        problem = _problem_in(response, content)
        if problem is None and response.status not in (401, 403, 429, 502, 503, 504):
            raise self._stranger(response.status)
        told = _sentence(problem or {}) or printable(response.reason or f"status {response.status}")
        raise CommandFailed(told + _ADVICE.get(response.status, ""), _code(response.status, problem or {}))

    def _parsed(self, status: int, content: bytes) -> Json:
        if not content:
            return {}
        try:
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self._stranger(status) from error
        if not isinstance(document, dict):
            raise self._stranger(status)
        return document

    def _stranger(self, status: int) -> CommandFailed:
        return CommandFailed(
            f"{self._access.url} answered {status}, but not as a Labkeeper façade does: check --url"
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                raise CommandFailed(_unreachable(self._access.url, error), ExitCode.UNREACHABLE) from error
            raise CommandFailed(
                f"{self._access.url} did not answer within {self._request_seconds:g} s", ExitCode.TIMED_OUT
            ) from error
        except aiohttp.ClientResponseError as error:
            raise CommandFailed(
                f"what answers at {self._access.url} does not speak HTTP: check --url"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise CommandFailed(_unreachable(self._access.url, error), ExitCode.UNREACHABLE) from error


def _unreachable(url: str, error: Exception) -> str:
    """What to do about a connection that was not made, or broke."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = printable(str(error.certificate_error))
            return f"cannot trust {url}: {reason} (SSL_CERT_FILE names further authorities)"
        case aiohttp.ClientConnectorSSLError():
            return f"cannot reach {url}: what listens there does not speak TLS; try http:// in --url"
        case aiohttp.ClientConnectorDNSError():
            return f"cannot reach {url}: no host has this name; check --url"
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return f"cannot reach {url}: is `labkeeper up` running? (--url or LABKEEPER_URL says where)"
        case _:
            return (
                f"the connection to {url} broke ({printable(str(error)) or type(error).__name__}): try again"
            )


_ADVICE: Final = {
    401: ": give an API token (--token-file, or LABKEEPER_TOKEN)",
    503: ": try again in a moment",
}


async def _body(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > _LARGEST_ANSWER:
            raise CommandFailed(
                f"the answer of {response.url.host} is too large to be a façade's: check --url"
            )
    return bytes(content)


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise StreamBroken("the stream broke off") from error
    raise StreamBroken("the stream ended")


def _code(status: int, problem: Json) -> ExitCode:
    if problem.get("reason") == KeyReused.reason:
        return ExitCode.CONFLICT
    return _CODES.get(status, ExitCode.FAILED)


def _problem_in(response: aiohttp.ClientResponse, content: bytes) -> Json | None:
    """The answer's problem document; None when it is not one."""
    if response.content_type != "application/problem+json":
        return None
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _sentence(problem: Json) -> str:
    """What a problem document says, with its fields."""
    told = str(problem.get("detail") or problem.get("title") or "")
    errors = problem.get("errors")
    fields = [
        f"{item.get('field')}: {item.get('message')}"
        for item in (errors if isinstance(errors, list) else ())
        if isinstance(item, dict) and str(item.get("message")) not in told
    ]
    return printable("; ".join([told.rstrip("."), *fields]).removeprefix("; "))


def _list_in(page: Json, key: str) -> list[Json]:
    found = page.get(key)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise CommandFailed(
            f"the façade's answer has no list {key!r}: is it older or newer than this labkeeper?"
        )
    return found
