"""Who sends a request, what they may do, and whether a web page of somebody else's sends it for them.

Without tokens the façade is open: whoever reaches it is an admin. That is for one person's own machine, so then it listens
on loopback only, and takes no request that a browser was tricked into: a foreign page's, or one by another host's name.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Protocol, assert_never

from aiohttp import web

from consumers.facade.errors import forbidden, unauthorized
from consumers.facade.settings import FacadeSettings
from consumers.facade.tokens import Caller, Role, TokenFile
from pipeline.settings import check_open_door, is_loopback

SESSION_COOKIE: Final = "labkeeper_session"
CALLER: Final = web.RequestKey("caller", Caller)

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_PEOPLE: Final = frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMIN})
_OPERATORS: Final = frozenset({Role.OPERATOR, Role.ADMIN})


class Access(Enum):
    """Who may use a route."""

    PUBLIC = "anybody"
    KNOWN = "anybody with a token"
    FLEET = "viewer or agent"
    MACHINE = "viewer or agent, or the machine itself"
    REPORT = "operator, or the machine itself"
    OPERATE = "operator"
    POWER = "operator or agent"


def allows(access: Access, caller: Caller, machine_id: str | None) -> bool:
    """Whether the caller may use such a route, for this machine if the route is about one."""
    itself = caller.role is Role.MACHINE and machine_id is not None and caller.user == machine_id
    match access:
        case Access.PUBLIC | Access.KNOWN:
            return True
        case Access.FLEET:
            return caller.role in _PEOPLE or caller.role is Role.AGENT
        case Access.MACHINE:
            return itself or caller.role in _PEOPLE or caller.role is Role.AGENT
        case Access.REPORT:
            return itself or caller.role in _OPERATORS
        case Access.OPERATE:
            return caller.role in _OPERATORS
        case Access.POWER:
            return caller.role in _OPERATORS or caller.role is Role.AGENT
        case _:
            assert_never(access)


def require(access: Access, caller: Caller, machine_id: str | None = None) -> None:
    """Refuse a caller who may not."""
    if allows(access, caller, machine_id):
        return
    if caller.role is Role.MACHINE and access in {Access.MACHINE, Access.REPORT}:
        raise forbidden(f"the token of machine {caller.user} is good for that machine only")
    raise forbidden(f"this takes the role {access.value}; {caller.user} is {caller.role}")


class Authenticator(Protocol):
    """Finds out who sends a request."""

    @property
    def is_open(self) -> bool:
        """Whether everybody is let in."""
        ...

    def caller_of(self, request: web.Request) -> Caller | None:
        """The sender; None when the request does not say. Raises a 401 when what it says is wrong."""
        ...

    def caller_with(self, token: str) -> Caller | None:
        """The bearer of this token."""
        ...


class OpenDoor:
    """Everybody is the same admin."""

    is_open = True

    def __init__(self, user: str) -> None:
        self._caller = Caller(user, Role.ADMIN)

    def caller_of(self, request: web.Request) -> Caller:  # noqa: ARG002  # the protocol's
        """The one caller there is."""
        return self._caller

    def caller_with(self, token: str) -> Caller:  # noqa: ARG002  # the protocol's
        """The one caller there is."""
        return self._caller


class TokenDoor:
    """Callers show a token: `Authorization: Bearer <token>`, or the cookie that the login page gave them for one."""

    is_open = False

    def __init__(self, tokens: TokenFile) -> None:
        self._tokens = tokens

    def caller_of(self, request: web.Request) -> Caller | None:
        """The bearer; None without a token. Raises a 401 for a token that nobody has."""
        header = request.headers.get("Authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            if scheme.lower() != "bearer":
                raise unauthorized("expected the header Authorization: Bearer <token>")
        else:
            token = request.cookies.get(SESSION_COOKIE, "")
            if not token:
                return None
        caller = self._tokens.caller_of(token.strip())
        if caller is None:
            raise unauthorized("nobody has this token; it may have been revoked")
        return caller

    def caller_with(self, token: str) -> Caller | None:
        """The bearer of this token."""
        return self._tokens.caller_of(token)


def authenticator(settings: FacadeSettings) -> Authenticator:
    """As the settings say. Raises `Misconfigured` when they would let strangers in."""
    if settings.tokens is not None:
        return TokenDoor(TokenFile(settings.tokens))
    check_open_door(settings.host)
    return OpenDoor(settings.open_user)


def refuse_foreign_pages(request: web.Request, *, is_open: bool) -> None:
    """Refuse what a browser sends for a page that is not ours. Programs that are no browsers do not notice."""
    if is_open and not _names_loopback(request.headers.get("Host")):
        raise forbidden(
            "without tokens this server answers to names of this machine only, such as localhost: a foreign page must not "
            "reach it by a name of its own"
        )
    if request.method in _READING:
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        if site not in {"same-origin", "none"}:
            raise forbidden("a page of another site must not change anything here (Sec-Fetch-Site)")
        return
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2].lower() != request.host.lower():
        raise forbidden("a page of another site must not change anything here (Origin)")


def _names_loopback(host: str | None) -> bool:
    if host is None:
        return True  # HTTP/1.0; browsers always send one
    name, colon, port = host.rpartition(":")
    return is_loopback(name if colon and port.isdecimal() else host)
