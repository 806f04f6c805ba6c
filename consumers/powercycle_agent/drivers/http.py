"""HTTP as the drivers use it: one device, small answers, short limits, and aiohttp's exceptions translated once.

It follows no redirects to other hosts, keeps no connection open between calls (small devices have few sockets, and an old
connection cannot fail a call), and never puts a query, a header or a password into an error's text.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Literal

from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorError,
    ClientError,
    ClientMiddlewareType,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    DigestAuthMiddleware,
    TCPConnector,
    TraceConfig,
)
from multidict import CIMultiDictProxy
from pydantic import AfterValidator, Field, field_validator
from yarl import URL

from consumers.powercycle_agent.drivers.errors import (
    DriverError,
    NotConfirmed,
    NotReached,
    TurnedAway,
    UnknownPort,
    Unreachable,
)
from consumers.powercycle_agent.drivers.limits import CONNECTING, LimitedSettings
from consumers.powercycle_agent.drivers.passwords import PasswordSettings
from consumers.powercycle_agent.drivers.reasons import plainly
from consumers.powercycle_agent.drivers.secrets import Secrets

MAX_ANSWER: Final = 1 << 20
"""Bytes of a body. None of our devices says that much."""
_MAX_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

Scheme = Literal["basic", "digest", "either"]
"""How a device wants a password; `either`: whichever of the two it asks for."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.user!r}, ...)"


_Raw = tuple[int, CIMultiDictProxy[str], bytes]
"""Status, headers and body."""

Logins = Callable[[], Login | None]
"""Asked before every request, so that a changed password counts at once; None: go without."""


def _web_address(value: str) -> str:
    try:
        url = URL(value)
        if (
            url.scheme in {"http", "https"}
            and url.host
            and not (url.user or url.password or url.query_string or url.fragment)
        ):
            return value.rstrip("/")
    except ValueError:
        pass
    raise ValueError(
        "must be an address like http://10.0.0.5 or https://pdu.lab:8443, without user and password"
    )


WebAddress = Annotated[str, Field(max_length=1000), AfterValidator(_web_address)]
"""`http://…` or `https://…`, perhaps with a path, without a user, a query or a slash at the end."""


class WebSettings(LimitedSettings):
    """A controller that speaks HTTP."""

    address: WebAddress
    """Such as `http://10.0.0.5`."""
    verify: bool = True
    """`false`: take any certificate. Better name the right one with `ca_file`."""
    ca_file: str | None = None
    """PEM file of the certificate, or of its authority, that the device shows; by default the system's authorities."""

    @field_validator("ca_file")
    @classmethod
    def _not_both(cls, value: str | None, info: Any) -> str | None:
        if value is not None and info.data.get("verify") is False:
            raise ValueError("is never looked at while verify is false: drop one of them")
        return value


class AccountSettings(WebSettings, PasswordSettings):
    """A controller that speaks HTTP and wants a user and a password."""

    user: Annotated[str, Field(min_length=1, max_length=200, pattern="^[^:]+$")] | None = None

    def login(self, secrets: Secrets, *, default_user: str | None = None) -> Login | None:
        """User and password; None when the entry names no user and the kind has none either. Raises `TurnedAway`."""
        user = self.user or default_user
        return None if user is None else Login(user, self.password_from(secrets, f"{user} at {self.address}"))


def tls_context(settings: WebSettings) -> ssl.SSLContext:
    """Whom to trust, as an entry says. Raises `TurnedAway` when its file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:  # also what is no certificate
        raise TurnedAway(
            f"cannot use {settings.ca_file} as ca_file of {settings.address}: {error}"
        ) from error
    if settings.ca_file is not None:
        # A device's own certificate may be named, too, although it is no authority.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True, slots=True)
class Answer:
    """What a device answered; neither 401 nor 403, and no redirect."""

    device: str
    """For errors' texts."""
    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str]
    secret: str | None = field(default=None, repr=False)
    """What errors must not repeat, should the device do so."""

    @property
    def text(self) -> str:
        """The body, with odd bytes replaced."""
        return self.body.decode("utf-8", "replace")

    def confirmed(self, *, port: str | None = None) -> Answer:
        """This answer, if it is a 2xx. Raises `UnknownPort` for a 404 to a question about `port`, else `NotConfirmed`."""
        if self.status == 404 and port is not None:
            raise UnknownPort(f"{self.device} has no port {port!r} (HTTP 404)")
        if not 200 <= self.status < 300:
            raise NotConfirmed(f"{self.device} answered HTTP {self.status}: {self._excerpt()}")
        return self

    def json(self) -> Any:
        """The body as JSON. Raises `NotConfirmed`."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise NotConfirmed(f"{self.device} answered no JSON: {self._excerpt()}") from error

    def json_object(self) -> dict[str, Any]:
        """The body as a JSON object. Raises `NotConfirmed`."""
        value = self.json()
        if not isinstance(value, dict):
            raise NotConfirmed(f"{self.device} answered no JSON object: {self._excerpt()}")
        return value

    def _excerpt(self) -> str:
        text = self.text
        return repr((text.replace(self.secret, "…") if self.secret else text)[:200])


class WebDevice:
    """The web server of one device."""

    def __init__(
        self,
        settings: WebSettings,
        *,
        logins: Logins | None = None,
        scheme: Scheme = "basic",
    ) -> None:
        self.name = settings.address
        self._settings = settings
        self._logins = logins or (lambda: None)
        self._scheme = scheme
        self._limit_s = settings.limit_s
        self._session: ClientSession | None = None
        self._digest: tuple[Login, DigestAuthMiddleware] | None = None
        self._connections = 0
        """How many were made."""

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        """GET `path`, below the address."""
        return await self.request("GET", path, query=query)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        document: Any = None,
        secret: str | None = None,
    ) -> Answer:
        """Ask once, within the entry's `limit_s`. `document` is sent as JSON. `path` is encoded already, `query` is not.
        `secret`: what errors must not repeat, besides the login's password.

        Redirects of a GET are followed on the same host. Raises `Unreachable` (`NotReached`, if no connection was made),
        `TurnedAway` (401, 403, a certificate that is not trusted) and `NotConfirmed` (a redirect that is not followed, an answer that is too long).
        """
        url = URL(self._settings.address + path, encoded=True)
        if query:
            url = url.update_query(query)
        if document is not None:
            body = json.dumps(document).encode()
            headers = {**(headers or {}), "Content-Type": "application/json"}
        before = self._connections
        try:
            async with asyncio.timeout(self._limit_s):
                answer = await self._follow(method, url, headers or {}, body)
                return replace(answer, secret=secret) if secret else answer
        except TimeoutError as error:
            raise self._silent(before) from error
        except (ClientError, OSError, ValueError) as error:
            translated = self._translated(error, before)
        # Some of aiohttp's errors show the whole address, and some devices want their password in there.
        raise translated from None

    async def close(self) -> None:
        """Let go. May be called twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _follow(self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None) -> Answer:
        for _ in range(_MAX_REDIRECTS):
            status, answer_headers, content = await self._ask(method, url, headers, body)
            if status in {401, 403}:
                raise TurnedAway(f"{self.name} does not let us in (HTTP {status}): check user and password")
            if status not in _REDIRECTS:
                login = self._logins()
                return Answer(self.name, status, content, answer_headers, login.password if login else None)
            target = url.join(URL(answer_headers.get("Location", "")))
            if target.origin() != url.origin() or method != "GET":
                raise NotConfirmed(
                    f"{self.name} redirects to {target.origin()}, and is not followed: "
                    "if that is right, change the address in its entry"
                )
            url = target
        raise NotConfirmed(f"{self.name} redirects again and again")

    async def _ask(self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None) -> _Raw:
        login = self._logins()
        if login is not None and self._scheme != "basic":
            answer = await self._send(method, url, headers, body, (self._middleware(login),))
            if not (self._scheme == "either" and answer[0] == 401 and _wants_basic(answer[1])):
                return answer
        if login is not None and self._scheme != "digest":
            headers = {**headers, "Authorization": _basic(login)}
        return await self._send(method, url, headers, body)

    async def _send(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | None,
        middlewares: Sequence[ClientMiddlewareType] = (),
    ) -> _Raw:
        async with self._open().request(
            method, url, headers=headers, data=body, allow_redirects=False, middlewares=middlewares
        ) as response:
            return response.status, response.headers, await self._content(response)

    def _middleware(self, login: Login) -> DigestAuthMiddleware:
        if self._digest is None or self._digest[0] != login:
            self._digest = (login, DigestAuthMiddleware(login.user, login.password))
        return self._digest[1]

    def _open(self) -> ClientSession:
        if self._session is None:
            is_safe = self.name.startswith("https:")
            tls = tls_context(self._settings) if is_safe else True  # it takes a while
            connector = TCPConnector(ssl=tls, force_close=True, limit=2)
            tracing = TraceConfig()
            tracing.on_connection_create_end.append(self._count_connection)
            self._session = ClientSession(
                connector=connector,
                timeout=ClientTimeout(total=None, connect=self._limit_s * CONNECTING),
                trace_configs=[tracing],
                headers={"User-Agent": "labkeeper", "Accept-Encoding": "identity"},
            )
        return self._session

    async def _content(self, response: ClientResponse) -> bytes:
        content = bytearray()
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > MAX_ANSWER:
                raise NotConfirmed(f"{self.name} answered more than {MAX_ANSWER} bytes")
        return bytes(content)

    async def _count_connection(self, *_: object) -> None:
        self._connections += 1

    def _silent(self, before: int) -> Unreachable:
        """When time was up; there had been so many connections before the call."""
        if self._connections == before:
            return NotReached(
                f"cannot connect to {self.name}: no answer within {self._limit_s * CONNECTING:g} s"
            )
        return Unreachable(f"{self.name} did not answer within {self._limit_s:g} s")

    def _translated(self, error: Exception, before: int) -> DriverError:
        if isinstance(error, ClientConnectorCertificateError):
            reason = str(error.certificate_error)
            advice = "name it, or its authority, with ca_file in its entry"
            if "mismatch" in reason:
                advice = "it is made out to another name, which must be the one in address"
            return TurnedAway(f"{self.name} shows a certificate that is not trusted: {advice} ({reason})")
        if isinstance(error, ClientConnectorError):
            # aiohttp may have sent the request before, over a connection that broke, and tried once more.
            kind = NotReached if self._connections == before else Unreachable
            return kind(f"cannot connect to {self.name}: {plainly(error)}")
        if isinstance(error, ClientResponseError):
            return Unreachable(f"{self.name} does not speak HTTP as it should: {error.message[:200]}")
        return Unreachable(f"{self.name} broke off: {type(error).__name__}")


def _basic(login: Login) -> str:
    return "Basic " + b64encode(f"{login.user}:{login.password}".encode()).decode()


def _wants_basic(headers: CIMultiDictProxy[str]) -> bool:
    return any(each[:6].lower() == "basic " for each in headers.getall("WWW-Authenticate", []))
