"""The table of routes: what each is for, who may use it, what it takes and answers. The server and OpenAPI are made of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel, ValidationError

from consumers.facade.auth import CALLER, Access, Authenticator, refuse_foreign_pages, require
from consumers.facade.errors import refusal_of, told, told_by_router, unauthorized
from consumers.facade.settings import FacadeSettings
from pipeline import logs, metrics
from pipeline.errors import LabkeeperError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ANY: Final = "*"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_QUIET: Final = ("/healthz", "/readyz", "/metrics", "/static/", "/dist/")
"""Asked for by programs all the time, or along with a page: not worth a line."""

log = logs.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method on one path."""

    method: str
    """`*`: any."""
    path: str
    """As aiohttp spells it; `{id}` is a machine's id."""
    handler: Handler
    access: Access
    summary: str
    tag: str
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    answer: Any = None
    """A type that pydantic can describe; None: no JSON."""
    content_type: str = "application/json"
    """Of the answer."""
    status: HTTPStatus = HTTPStatus.OK
    also: HTTPStatus | None = None
    """Another success: with the same answer, or with none where it is 204."""
    errors: Sequence[HTTPStatus] = ()
    """Beside 401, 403 and 422, which any may give."""
    stream: bool = False
    """Ends when the client goes: no time limit, and not among the request durations."""
    resumes: bool = True
    """Of a stream: it can go on where it broke off."""
    idempotent: bool = False
    """Takes the header `Idempotency-Key`."""
    alias: bool = False
    """Another spelling of a route, not described."""
    machine_parameter: str | None = None
    """Where the machine's id is if not in the path: this query parameter."""


def add_routes(
    app: web.Application, routes: Sequence[Route], auth: Authenticator, settings: FacadeSettings
) -> None:
    """Serve the routes."""
    for route in routes:
        handler = _guarded(route, auth, settings)
        if route.method == "GET" and not route.stream:
            app.router.add_get(route.path, handler)
        else:
            app.router.add_route(route.method, route.path, handler)


def _guarded(route: Route, auth: Authenticator, settings: FacadeSettings) -> Handler:
    limit = None if route.stream else settings.request_timeout.total_seconds()

    async def handle(request: web.Request) -> web.StreamResponse:
        began = time.monotonic()
        try:
            if route.access is not Access.PUBLIC:
                _admit(request, route, auth)
            async with asyncio.timeout(limit):
                response = await route.handler(request)
        except (LabkeeperError, ValidationError, TimeoutError) as error:
            response = told(request, refusal_of(error))
        if not route.stream:
            method = request.method if request.method in _METHODS else "other"
            metrics.REQUEST_SECONDS.labels(method, route.path, response.status).observe(
                time.monotonic() - began
            )
        return response

    return handle


def _admit(request: web.Request, route: Route, auth: Authenticator) -> None:
    caller = auth.caller_of(request)
    if caller is None:
        raise unauthorized("this takes a token in the header Authorization, as Bearer <token>")
    if route.access is not Access.REPORT:  # there the machine is in the body, and `Intake` looks
        parameter = route.machine_parameter
        machine_id = request.query.get(parameter) if parameter else request.match_info.get("id")
        require(route.access, caller, machine_id)
    request[CALLER] = caller


def gate(auth: Authenticator) -> Any:
    """Middleware: turns foreign pages away, tells in our own words what the router refuses, and logs each request."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.monotonic()
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR
        try:
            response = await answered(request, handler)
            status = response.status
        except web.HTTPException as redirect:
            status = redirect.status
            raise
        finally:
            _log_request(request, status, began)
        return response

    async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            refuse_foreign_pages(request, is_open=auth.is_open)
            return await handler(request)
        except LabkeeperError as error:
            return told(request, refusal_of(error))
        except web.HTTPException as error:
            if error.status < HTTPStatus.BAD_REQUEST:
                raise
            return told_by_router(request, error)

    return middleware


def _log_request(request: web.Request, status: int, began: float) -> None:
    resource = request.match_info.route.resource
    route = "" if resource is None else resource.canonical
    line = log.debug if route.startswith(_QUIET) else log.info
    method = request.method if request.method in _METHODS else "other"
    duration_ms = round((time.monotonic() - began) * 1000, 1)
    line("request", method=method, route=route, status=status, duration_ms=duration_ms)
