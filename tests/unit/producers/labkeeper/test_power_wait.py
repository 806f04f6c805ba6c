"""`labkeeper power … --wait` over the troubles of a façade."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from schemas.ids import new_ulid
from schemas.power import PowerAction, PowerCommand, PowerMoment, PowerRecord, PowerStatus
from tests.unit.producers.labkeeper.command_line import labkeeper_beside
from tests.unit.producers.labkeeper.facade_double import problem

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
COMMAND = PowerCommand(
    id=new_ulid(),
    machine_id="a",
    action=PowerAction.CYCLE,
    who="ada",
    requested_at=NOW,
    expires_at=NOW + timedelta(minutes=10),
)


def record(*statuses: PowerStatus) -> PowerRecord:
    steps = [PowerMoment(status=each, at=NOW) for each in statuses]
    return PowerRecord(command=COMMAND, status=statuses[-1], steps=steps)


@asynccontextmanager
async def answering(*looks: web.Response, outlet_look: web.Response | None = None) -> AsyncIterator[str]:
    """A façade that queues what is ordered, and answers so those who look at the command, or at the outlet."""
    rest = list(looks)

    async def queue(_: web.Request) -> web.Response:
        return web.json_response(record(PowerStatus.QUEUED).model_dump(mode="json"))

    async def outlet(_: web.Request) -> web.Response:
        return outlet_look or web.json_response({"outlet": None, "record": None})

    async def look(_: web.Request) -> web.Response:
        return rest.pop(0)

    app = web.Application()
    app.router.add_put("/api/v1/machines/a/power", queue)
    app.router.add_get("/api/v1/machines/a/power", outlet)
    app.router.add_get("/api/v1/power/commands/{id}", look)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    yield str(server.make_url("")).rstrip("/")
    await server.close()


async def test_a_facade_that_is_away_for_a_moment_ends_no_wait() -> None:
    ended = record(PowerStatus.QUEUED, PowerStatus.DONE)
    looks = [
        problem(503, "the database is out of reach"),
        problem(503, "the database is out of reach"),
        web.json_response(ended.model_dump(mode="json")),
    ]
    async with answering(*looks) as url:
        result = await labkeeper_beside("power", "cycle", "a", "--wait", LABKEEPER_URL=url)
    assert (result.code, result.lines) == (0, ["a: queued", "a: done"])
    assert result.err.count("so does the wait") == 1


@pytest.mark.parametrize(("status", "code"), [(403, 4), (404, 3)])
async def test_a_facade_that_refuses_ends_the_wait(status: int, code: int) -> None:
    async with answering(problem(status, "no")) as url:
        result = await labkeeper_beside("power", "cycle", "a", "--wait", LABKEEPER_URL=url)
    assert result.code == code


@pytest.mark.parametrize(
    "look", [(503, "the database is out of reach"), (403, "no")], ids=["not ready", "not allowed"]
)
async def test_an_order_stands_although_nobody_can_say_whether_its_agent_is_there(
    look: tuple[int, str],
) -> None:
    """Whoever takes the exit code for the order's fate would order twice."""
    ended = record(PowerStatus.QUEUED, PowerStatus.DONE)
    async with answering(web.json_response(ended.model_dump(mode="json")), outlet_look=problem(*look)) as url:
        result = await labkeeper_beside("power", "cycle", "a", "--wait", LABKEEPER_URL=url)
    assert (result.code, result.lines) == (0, ["a: queued", "a: done"])
    assert f"the command is queued, but whether an agent is there is not known: {look[1]}" in result.err
