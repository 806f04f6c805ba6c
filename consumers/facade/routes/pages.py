"""The page for people, and how a browser signs in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from aiohttp import web

from consumers.facade.auth import SESSION_COOKIE, Access
from consumers.facade.bodies import read_body
from consumers.facade.errors import Refusal, invalid, unauthorized
from consumers.facade.keys import AUTH
from consumers.facade.routing import ANY, Handler, Route
from consumers.facade.static_files import StaticFile, read_files

STATIC: Final = Path(__file__).parent.parent / "static"
_FORM: Final = "application/x-www-form-urlencoded"
_SESSION_S: Final = 30 * 24 * 3600
_MAX_FORM_BYTES: Final = 4096


async def login(request: web.Request) -> web.Response:
    """Trade a token for a cookie that scripts cannot read and other sites cannot send."""
    if request.content_type != _FORM:
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"expected Content-Type: {_FORM}")
    token = _token_in(await read_body(request, _MAX_FORM_BYTES))
    if request.app[AUTH].caller_with(token) is None:
        raise unauthorized("nobody has this token; it may have been revoked")
    response = _afterwards(request)
    encrypted = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
    response.set_cookie(
        SESSION_COOKIE, token, max_age=_SESSION_S, httponly=True, samesite="Strict", secure=encrypted
    )
    return response


def _token_in(form: bytes) -> str:
    try:
        tokens = parse_qs(form.decode("ascii"), max_num_fields=10).get("token", [])
    except ValueError:
        raise invalid("body", "not a form") from None
    if len(tokens) != 1 or not tokens[0].strip():
        raise invalid("token", "missing")
    return tokens[0].strip()


async def logout(request: web.Request) -> web.Response:
    """Forget the cookie."""
    response = _afterwards(request)
    response.del_cookie(SESSION_COOKIE)
    return response


def _afterwards(request: web.Request) -> web.Response:
    """A program is told so; a form without scripts goes on to the page."""
    if "text/html" in request.headers.get("Accept", ""):
        return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/"})
    return web.Response(status=HTTPStatus.NO_CONTENT)


def serve_file(files: Mapping[str, StaticFile], name: str | None = None) -> Handler:
    """A handler for this file, or for the one that the path names."""

    async def handle(request: web.Request) -> web.Response:
        found = files.get(name or request.match_info["path"])
        if found is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "there is no such file")
        return found.answer(request)

    return handle


def _page(method: str, path: str, handler: Handler, summary: str) -> Route:
    return Route(
        method=method,
        path=path,
        handler=handler,
        access=Access.PUBLIC,
        summary=summary,
        tag="pages",
        content_type="text/html",
    )


def routes() -> Sequence[Route]:
    """Read the page's files, and say where they are."""
    files = read_files(STATIC)
    return (
        _page(ANY, "/", serve_file(files, "index.html"), "The page for people"),
        _page("GET", "/static/{path:.+}", serve_file(files), "Its files"),
        _page(ANY, "/dist/{path:.+}", serve_file(files), "Its files, where the old machine server had them"),
        _page("POST", "/login", login, "Trade a token (form field `token`) for a cookie"),
        _page("POST", "/logout", logout, "Forget the cookie"),
    )
