"""Silences, under /api/v1: who wants to hear nothing about which machines, and until when."""

from __future__ import annotations

from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final

from aiohttp import web

from consumers.facade.answers import answer_model
from consumers.facade.audit import LONGEST_LOGGED, audited
from consumers.facade.auth import CALLER, Access
from consumers.facade.bodies import query_of, read_ours
from consumers.facade.errors import Refusal, invalid
from consumers.facade.keys import CLOCK, SETTINGS, SILENCES
from consumers.facade.routing import Route
from schemas.api import SilenceBody, SilenceList, SilenceParameters
from schemas.silence import Silence

BASE: Final = "/api/v1/silences"
_LONGEST: Final = timedelta(days=365)


async def list_silences(request: web.Request) -> web.Response:
    """Those that last."""
    everything = query_of(request, SilenceParameters).all
    now = None if everything else request.app[CLOCK].now()
    return answer_model(SilenceList(silences=list(await request.app[SILENCES].silences(now=now))))


async def add_silence(request: web.Request) -> web.Response:
    """Begin one, in the caller's name."""
    body = await read_ours(request, SilenceBody, request.app[SETTINGS].max_body_bytes)
    caller = request[CALLER]
    now = request.app[CLOCK].now()
    silence = Silence(
        owner=caller.user,
        reason=body.reason,
        machine=body.machine,
        pool=body.pool,
        starts_at=now,
        ends_at=_end(body, now),
    )
    with audited("add-silence", caller, silence=silence.id, machine=body.machine, pool=body.pool):
        await request.app[SILENCES].add_silence(silence)
    return answer_model(silence, status=HTTPStatus.CREATED)


def _end(body: SilenceBody, now: datetime) -> datetime:
    if (body.ends_in_s is None) == (body.ends_at is None):
        raise invalid("ends_in_s", "say either ends_in_s or ends_at")
    if body.ends_in_s is not None:
        return now + timedelta(seconds=body.ends_in_s)
    assert body.ends_at is not None
    if not now < body.ends_at <= now + _LONGEST:
        raise invalid("ends_at", "must lie in the future, within a year")
    return body.ends_at


async def end_silence(request: web.Request) -> web.Response:
    """End one now."""
    silence_id = request.match_info["silence"]
    with audited("end-silence", request[CALLER], silence=silence_id[:LONGEST_LOGGED]):
        ended = await request.app[SILENCES].end_silence(silence_id, now=request.app[CLOCK].now())
    if not ended:
        raise Refusal(HTTPStatus.NOT_FOUND, "there is no such silence that lasts")
    return web.Response(status=HTTPStatus.NO_CONTENT)


ROUTES: Final = (
    Route(
        method="GET",
        path=BASE,
        handler=list_silences,
        access=Access.FLEET,
        summary="List the silences that last",
        tag="silences",
        query=SilenceParameters,
        answer=SilenceList,
        errors=(HTTPStatus.SERVICE_UNAVAILABLE,),
    ),
    Route(
        method="POST",
        path=BASE,
        handler=add_silence,
        access=Access.OPERATE,
        summary="Send nothing about some machines for a while",
        tag="silences",
        body=SilenceBody,
        answer=Silence,
        status=HTTPStatus.CREATED,
        errors=(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            HTTPStatus.SERVICE_UNAVAILABLE,
        ),
    ),
    Route(
        method="DELETE",
        path=BASE + "/{silence}",
        handler=end_silence,
        access=Access.OPERATE,
        summary="End a silence now",
        tag="silences",
        status=HTTPStatus.NO_CONTENT,
        errors=(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE),
    ),
)
