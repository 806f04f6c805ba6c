"""The lab over the façade's HTTP, as an agent sees it: a real façade, with tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from consumers.facade.tokens import Role, add_token
from consumers.powercycle_agent import http_control
from consumers.powercycle_agent.http_control import Access, FacadeUnavailable, HttpControl
from pipeline.errors import Misconfigured, Rejected
from pipeline.facade_access import check_url
from schemas.description import PowerCycleState
from schemas.power import ControllerReport, PowerCommand, PowerStatus, PowerStep, read_result
from schemas.topics import POWER_RESULTS
from tests.unit.consumers.facade.lab import NOW, Lab, running
from tests.unit.consumers.powercycle_agent.fake_power import order

MACHINE = "rack4-07"


@pytest.fixture
def tokens(tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "tokens"
    return path, add_token(path, Role.AGENT, "rack4")


@pytest.fixture
async def lab(tokens: tuple[Path, str]) -> AsyncIterator[Lab]:
    async with running(tokens=tokens[0]) as lab:
        yield lab


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def control(lab: Lab, tokens: tuple[Path, str], session: aiohttp.ClientSession) -> HttpControl:
    return HttpControl(session, Access(lab.url, tokens[1]))


async def click(lab: Lab, machine_id: str = MACHINE) -> PowerCommand:
    command = order(machine_id, now=NOW)
    await lab.store.order_power(command, now=NOW)
    await lab.relay()
    return command


async def test_commands_are_heard_and_pending_and_results_arrive(lab: Lab, control: HttpControl) -> None:
    await lab.machine(MACHINE, power_cycle_state=PowerCycleState.AVAILABLE)
    async with control.listen() as commands, asyncio.timeout(60):
        command = await click(lab)
        assert await anext(commands) == command
    (record,) = await control.pending()
    assert (record.command, record.status) == (command, PowerStatus.QUEUED)
    assert await control.ended_lately() == []

    step = PowerStep(
        command_id=command.id, machine_id=MACHINE, status=PowerStatus.DONE, at=NOW, agent="rack4"
    )
    report = ControllerReport(
        machine_id=MACHINE,
        state=PowerCycleState.AVAILABLE,
        agent="rack4",
        controller="fake/a",
        port="1",
        at=NOW,
    )
    await control.report([step, report] * 150)

    messages = await lab.broker.fetch(POWER_RESULTS, limit=1000)
    assert [read_result(message.value) for message in messages] == [step, report] * 150


@pytest.mark.parametrize("behind", [0, 1])
async def test_many_commands_are_read_page_by_page_and_none_is_lost(
    lab: Lab, control: HttpControl, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    """Also if they fill the last page, and if others are ordered and end meanwhile."""
    monkeypatch.setattr(http_control, "_PAGE", 3)
    commands = [order(f"{MACHINE}-{number:02}", now=NOW) for number in range(9 + behind)]
    for command in commands:
        await lab.machine(command.machine_id, power_cycle_state=PowerCycleState.AVAILABLE)
        await lab.store.order_power(command, now=NOW)
    asked: list[dict[str, str]] = []
    ask = control._ask

    async def meanwhile(method: str, path: str, **options: Any) -> bytes:
        asked.append(dict(options["params"]))
        body = await ask(method, path, **options)
        if len(asked) == 1:
            await lab.store.cancel_power(commands[4].machine_id, now=NOW, who="ann")
            await click(lab, commands[4].machine_id)
        return body

    monkeypatch.setattr(control, "_ask", meanwhile)
    found = [record.command.id for record in await control.pending()]

    assert found == [command.id for command in commands if command is not commands[4]]
    assert {page["limit"] for page in asked} == {"3"}
    assert [record.command.id for record in await control.ended_lately()] == [commands[4].id]


async def test_one_owner_at_a_time_has_the_lease(control: HttpControl) -> None:
    assert await control.acquire("rack4", "a", seconds=30)
    assert await control.acquire("rack4", "a", seconds=30)
    assert not await control.acquire("rack4", "b", seconds=30)
    await control.release("rack4", "a")
    assert await control.acquire("rack4", "b", seconds=30)


async def test_a_wrong_token_is_no_end_but_a_reason_to_wait(lab: Lab, session: aiohttp.ClientSession) -> None:
    control = HttpControl(session, Access(lab.url, "wrong"))
    with pytest.raises(FacadeUnavailable, match=r"answered 401: [^{]*: give an API token .*LABKEEPER_TOKEN"):
        await control.pending()
    with pytest.raises(FacadeUnavailable, match="401"):
        async with control.listen():
            pass


async def test_a_token_is_read_anew_from_its_file(
    lab: Lab, tokens: tuple[Path, str], session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    control = HttpControl(session, Access(lab.url, token_file=file))
    with pytest.raises(FacadeUnavailable, match="cannot be read"):
        await control.pending()
    file.write_text(tokens[1] + "\n")
    assert await control.pending() == []


async def test_what_the_facade_will_never_take_is_rejected(lab: Lab, control: HttpControl) -> None:
    queued = PowerStep(
        command_id=order().id, machine_id=MACHINE, status=PowerStatus.QUEUED, at=NOW, agent="rack4"
    )
    with pytest.raises(Rejected, match="status"):
        await control.report([queued])


class Flaky:
    """A façade whose stream breaks, and which speaks of things that we do not know."""

    def __init__(self) -> None:
        self.streams = 0
        self.command = order(MACHINE, now=NOW)

    async def watch(self, request: web.Request) -> web.StreamResponse:
        self.streams += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"event: weather\ndata: rain\n\nevent: command\ndata: {}\n\n")
        if self.streams > 2:
            await response.write(b"event: command\ndata: %s\n\n" % self.command.model_dump_json().encode())
        return response

    async def pending(self, _request: web.Request) -> web.Response:
        record = {
            "command": self.command.model_dump(mode="json") | {"colour": "red"},
            "status": "queued",
            "steps": [],
            "mood": "new",
        }
        return web.json_response({"commands": [record], "next_before": None, "more": 1})

    async def for_ever(self, _request: web.Request) -> web.Response:
        return web.json_response({"commands": [], "next_before": self.command.id})

    async def lease(self, _request: web.Request) -> web.Response:
        return web.Response(text="<html>welcome")


@pytest.fixture
async def flaky() -> AsyncIterator[tuple[Flaky, str]]:
    facade = Flaky()
    app = web.Application()
    app.router.add_get("/api/v1/power/watch", facade.watch)
    app.router.add_get("/api/v1/power/commands", facade.pending)
    app.router.add_get("/for-ever/api/v1/power/commands", facade.for_ever)
    app.router.add_put("/api/v1/power/leases/{name}", facade.lease)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield facade, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_stream_that_breaks_is_mended_and_what_was_missed_is_told(
    flaky: tuple[Flaky, str], session: aiohttp.ClientSession
) -> None:
    facade, url = flaky
    heard: list[Any] = []
    async with HttpControl(session, Access(url)).listen() as commands, asyncio.timeout(20):
        async for command in commands:
            heard.append(command)
            if len(heard) == 3:
                break

    assert heard == [facade.command] * 3
    assert facade.streams == 3


async def test_answers_that_are_none_are_not_believed(
    flaky: tuple[Flaky, str], session: aiohttp.ClientSession
) -> None:
    with pytest.raises(FacadeUnavailable, match="lease"):
        await HttpControl(session, Access(flaky[1])).acquire("rack4", "a", seconds=30)
    with pytest.raises(FacadeUnavailable, match="again and again"):
        await HttpControl(session, Access(f"{flaky[1]}/for-ever")).pending()


async def test_a_facade_that_is_away_is_named(session: aiohttp.ClientSession) -> None:
    control = HttpControl(session, Access("http://127.0.0.1:1"))
    with pytest.raises(FacadeUnavailable, match=r"http://127\.0\.0\.1:1/api"):
        await control.pending()


@pytest.mark.parametrize("url", ["lab", "ftp://lab", "http://", "http://lab?x=1", "http://ann:secret@lab"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured):
        check_url(url)


def test_a_token_does_not_show() -> None:
    assert "secret" not in repr(Access("http://lab", "secret"))
