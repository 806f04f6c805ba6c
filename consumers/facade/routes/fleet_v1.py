"""How the fleet does, under /api/v1."""

from __future__ import annotations

import math
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from aiohttp import web

from consumers.facade.answers import answer, answer_model
from consumers.facade.auth import Access
from consumers.facade.bodies import query_of
from consumers.facade.errors import Refusal, invalid
from consumers.facade.keys import FLEET, STATISTICS
from consumers.facade.routing import Route
from consumers.facade.statistics import Statistics, stepped
from schemas.api import FleetStatsHistory, FleetStatsNow, StatsHistoryParameters, StatsParameters
from schemas.fleet_stats import WHOLE_FLEET, FleetStats

BASE: Final = "/api/v1/fleet/stats"

_USUAL_ENTRIES: Final = 300
_MOST_ENTRIES: Final = 2_000
_USUAL_SPAN: Final = timedelta(hours=1)


async def get_stats(request: web.Request) -> web.Response:
    """The latest window."""
    parameters = query_of(request, StatsParameters)
    statistics = request.app[STATISTICS]
    etag = f"{request.app[FLEET].boot_id}-{statistics.position}"
    if any(known.value == etag for known in request.if_none_match or ()):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers={"ETag": f'"{etag}"'})
    if parameters.pool is not None:
        _check_known(statistics, parameters.pool)
    pools = statistics.pools if parameters.pool is None else [parameters.pool]
    found = [window for pool in pools if (window := statistics.latest(pool)) is not None]
    return answer(b'{"stats":[%b]}' % b",".join(found), headers={"ETag": f'"{etag}"'})


async def get_history(request: web.Request) -> web.Response:
    """One pool over time."""
    parameters = query_of(request, StatsHistoryParameters)
    statistics = request.app[STATISTICS]
    _check_known(statistics, parameters.pool)
    end = statistics.end_of(parameters.pool)
    if end is None:
        return answer_model(FleetStatsHistory(pool=parameters.pool, step_s=parameters.step or 60, stats=[]))
    until = min(parameters.until or end, end)
    since = parameters.since or until - _USUAL_SPAN
    if since > (parameters.until or since):
        raise invalid("since", "must not be after until")
    starts = statistics.starts(parameters.pool, since, until)
    ends = await statistics.windows(parameters.pool, [*starts[:1], *starts[-1:]])
    length_s = max((_length_s(each, each) for each in ends), default=60)
    span_s = _length_s(ends[0], ends[-1]) if ends else 0
    step_s = parameters.step or _usual_step_s(span_s, length_s)
    if span_s / step_s > _MOST_ENTRIES:  # before all of them are read
        raise invalid("step", f"at least {math.ceil(span_s / _MOST_ENTRIES)} s for a span of {span_s:.0f} s")
    windows = await statistics.windows(parameters.pool, starts)
    stats = stepped([each for each in windows if each.window_end <= until], step_s)
    return answer_model(FleetStatsHistory(pool=parameters.pool, step_s=step_s, stats=stats))


def _length_s(first: FleetStats, last: FleetStats) -> float:
    return (last.window_end - first.window_start).total_seconds()


def _usual_step_s(span_s: float, window_s: float) -> int:
    """As many whole windows as it takes."""
    whole = max(1, math.ceil(window_s))
    return whole * max(1, math.ceil(span_s / _USUAL_ENTRIES / whole))


def _check_known(statistics: Statistics, pool: str) -> None:
    if pool != WHOLE_FLEET and statistics.end_of(pool) is None:
        raise Refusal(HTTPStatus.NOT_FOUND, f"nothing is remembered of a pool {pool!r}")


ROUTES: Final = (
    Route(
        method="GET",
        path=BASE,
        handler=get_stats,
        access=Access.FLEET,
        summary="Tell how each pool and the whole fleet did in the latest window",
        tag="fleet",
        query=StatsParameters,
        answer=FleetStatsNow,
        errors=(HTTPStatus.NOT_FOUND,),
    ),
    Route(
        method="GET",
        path=BASE + "/history",
        handler=get_history,
        access=Access.FLEET,
        summary="Tell how a pool, or the whole fleet, did over time: up to two days back, less in a lab of many pools",
        tag="fleet",
        query=StatsHistoryParameters,
        answer=FleetStatsHistory,
        errors=(HTTPStatus.NOT_FOUND,),
    ),
)
