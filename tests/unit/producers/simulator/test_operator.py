"""What the simulator tells a façade, and how it takes the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pipeline.errors import BrokerUnavailable, Misconfigured, Overloaded, Rejected
from producers.simulator.catalogue import PHONES, Chromebook, Computer, Machine
from producers.simulator.destinations import HttpDestination
from producers.simulator.operator import Operator, tasks_for
from schemas.description import Annotation, Description

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PHONE = Machine("phone-1", PHONES[0], "S", note="screen cracked")
CHROMEBOOK = Machine("chromebook-1", Chromebook("kevin", "stable-channel", "124", "15823.60.0"), "S")
COMPUTER = Machine("computer-1", Computer("nuc", 4, ("x86",), ("none",), ("Linux",)), "S")


def born(machine: Machine, **changes: Any) -> Description:
    return Description.new(machine.id, now=NOW).model_copy(update=changes)


def test_a_new_phone_is_set_up_as_one() -> None:
    assert tasks_for(PHONE, born(PHONE)) == [
        ("attached-device", {"attached_device": "adb"}),
        ("note", {"message": "screen cracked"}),
    ]


def test_a_new_chromebook_gets_its_address() -> None:
    device, supplied = tasks_for(CHROMEBOOK, born(CHROMEBOOK))

    assert device == ("attached-device", {"attached_device": "ssh"})
    assert supplied[1]["ssh_user_ip"] == "root@chromebook-1-dut"


def test_a_computer_needs_nothing() -> None:
    assert tasks_for(COMPUTER, born(COMPUTER)) == []


def test_what_somebody_decided_is_left_alone() -> None:
    note = Annotation(message="", user="ann@example.com", timestamp=NOW)

    assert tasks_for(PHONE, born(PHONE, attached_device="ios", note=note)) == []


class Facade:
    """Answers as a façade does, with the status it is told to."""

    def __init__(self, *descriptions: Description, status: int = 200) -> None:
        self.descriptions = list(descriptions)
        self.status = status
        self.puts: list[tuple[str, Any]] = []
        self.done = asyncio.Event()
        self.expected = 0

    async def list(self, request: web.Request) -> web.Response:
        at = int(request.query.get("cursor", "0"))
        page = ",".join(one.model_dump_json() for one in self.descriptions[at : at + 1])
        cursor = f'"{at + 1}"' if at + 1 < len(self.descriptions) else "null"
        return web.Response(
            text=f'{{"machines":[{page}],"next_cursor":{cursor}}}',
            content_type="application/json",
            status=self.status,
        )

    async def put(self, request: web.Request) -> web.Response:
        self.puts.append((request.path, await request.json()))
        if len(self.puts) >= self.expected:
            self.done.set()
        return web.json_response({})

    async def events(self, _request: web.Request) -> web.Response:
        return web.Response(status=self.status, text="{}")


@asynccontextmanager
async def serving(facade: Facade) -> AsyncIterator[aiohttp.ClientSession]:
    app = web.Application()
    app.router.add_get("/api/v1/machines", facade.list)
    app.router.add_put("/api/v1/machines/{id}/{what}", facade.put)
    app.router.add_post("/api/v1/events", facade.events)
    async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as session:
        yield session


async def test_every_page_of_machines_is_looked_at() -> None:
    facade = Facade(born(COMPUTER), born(CHROMEBOOK), born(PHONE))
    facade.expected = 4
    async with serving(facade) as session:
        stop = facade.done
        await asyncio.wait_for(Operator(session, [PHONE, CHROMEBOOK, COMPUTER]).run(stop), 30)

    assert {path for path, _ in facade.puts} == {
        "/api/v1/machines/phone-1/attached-device",
        "/api/v1/machines/phone-1/note",
        "/api/v1/machines/chromebook-1/attached-device",
        "/api/v1/machines/chromebook-1/supplied-dimensions",
    }


async def test_without_the_right_to_set_up_machines_the_simulation_goes_on() -> None:
    stop = asyncio.Event()
    async with serving(Facade(born(PHONE), status=403)) as session:
        running = asyncio.create_task(Operator(session, [PHONE]).run(stop))
        done, _ = await asyncio.wait([running], timeout=0.3)
        assert not done
        stop.set()
        await asyncio.wait_for(running, 30)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (503, BrokerUnavailable),
        (429, Overloaded),
        (401, Misconfigured),
        (403, Misconfigured),
        (422, Rejected),
    ],
)
async def test_a_refused_event_is_told_by_what_to_do_about_it(status: int, error: type[Exception]) -> None:
    async with serving(Facade(status=status)) as session:
        with pytest.raises(error):
            await HttpDestination(session).send([("phone-1", b"{}")])


async def test_an_accepted_event_is_sent() -> None:
    async with serving(Facade(status=202)) as session:
        await HttpDestination(session).send([("phone-1", b"{}"), ("phone-2", b"{}")])


async def test_a_facade_that_is_away_may_come_back() -> None:
    async with aiohttp.ClientSession("http://127.0.0.1:9") as session:
        with pytest.raises(BrokerUnavailable, match="cannot be reached"):
            await HttpDestination(session).send([("phone-1", b"{}")])
