"""Events of machines, under /api/v1."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import web

from consumers.facade.answers import answer
from consumers.facade.auth import CALLER, Access
from consumers.facade.bodies import read_body, require_json
from consumers.facade.keys import INTAKE, SETTINGS
from consumers.facade.routing import Route
from schemas import envelope
from schemas.api import Accepted
from schemas.event import Event


async def post_event(request: web.Request) -> web.Response:
    """Take an event; the answer means that the broker has it safe."""
    require_json(request)
    await take_event(request)
    return answer(b"{}", status=HTTPStatus.ACCEPTED)


async def take_event(request: web.Request) -> None:
    """The same for the old and the new route."""
    body = await read_body(request, request.app[SETTINGS].max_event_bytes)
    await request.app[INTAKE].take(body, request[CALLER], request.headers.get(envelope.TRACE_PARENT))


ROUTES: Final = (
    Route(
        method="POST",
        path="/api/v1/events",
        handler=post_event,
        access=Access.REPORT,
        summary="Report a machine's state; the machine shows it a moment later",
        tag="machines",
        body=Event,
        answer=Accepted,
        status=HTTPStatus.ACCEPTED,
        errors=(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            HTTPStatus.SERVICE_UNAVAILABLE,
        ),
    ),
)
