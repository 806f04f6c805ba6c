"""The façade as a whole: how it starts, refuses to start, and ends."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from consumers.facade.__main__ import command
from consumers.facade.service import serve_facade
from consumers.facade.settings import FacadeSettings
from infra.servers.child import free_ports
from pipeline.broker.memory import MemoryBroker
from pipeline.broker.protocol import Batch, Subscription
from pipeline.clock import ManualClock
from pipeline.errors import Misconfigured
from pipeline.store.memory import MemoryStore
from schemas.description import Description
from tests.unit.consumers.facade.lab import DEADLINE_S, NOW, SseClient, changing


@asynccontextmanager
async def serving(
    store: MemoryStore, broker: MemoryBroker
) -> AsyncIterator[tuple[aiohttp.ClientSession, asyncio.Event]]:
    """The whole service on a free port, until the event is set."""
    stop, (port,) = asyncio.Event(), free_ports(1)
    task = asyncio.create_task(serve_facade(store, broker, ManualClock(NOW), FacadeSettings(port=port), stop))
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            await _answers(http)
            yield http, stop
    finally:
        stop.set()
        await asyncio.wait_for(task, DEADLINE_S)


async def _answers(http: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                async with http.get("/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.01)


async def test_a_stop_lets_requests_finish_and_ends_streams() -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    class SlowStore(MemoryStore):
        async def get(self, machine_id: str) -> Description:
            entered.set()
            await go_on.wait()
            return await super().get(machine_id)

    store = SlowStore()
    await store.update("m", changing(), now=NOW, create=True)
    async with (
        serving(store, MemoryBroker()) as (http, stop),
        http.get("/api/v1/machines/watch") as stream,
    ):
        await SseClient(stream).until("synced")
        request = asyncio.create_task(_status(http, "/api/v1/machines/m"))
        await asyncio.wait_for(entered.wait(), DEADLINE_S)
        stop.set()
        with pytest.raises(EOFError):
            await SseClient(stream).next()
        go_on.set()
        assert await asyncio.wait_for(request, DEADLINE_S) == 200


async def _status(http: aiohttp.ClientSession, path: str) -> int:
    async with http.get(path) as response:
        return response.status


async def test_a_port_that_is_taken_is_one_clear_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = FacadeSettings(port=taken.getsockname()[1])
        with pytest.raises(Misconfigured, match=r"cannot listen on 127\.0\.0\.1:\d+ .*choose another --port"):
            await serve_facade(MemoryStore(), MemoryBroker(), ManualClock(NOW), settings, asyncio.Event())


async def test_an_address_that_is_not_ours_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "tokens").touch()
    settings = FacadeSettings(host="192.0.2.1", port=0, tokens=tmp_path / "tokens")
    with pytest.raises(Misconfigured, match="cannot listen on"):
        await serve_facade(MemoryStore(), MemoryBroker(), ManualClock(NOW), settings, asyncio.Event())


async def test_a_view_that_cannot_go_on_ends_the_service() -> None:
    class Broken(MemoryBroker):
        @asynccontextmanager
        async def subscribe(self, *_arguments: Any, **_options: Any) -> AsyncIterator[Subscription]:
            yield _EndsWithError()

    with pytest.raises(LookupError, match="a bug"):
        await asyncio.wait_for(
            serve_facade(MemoryStore(), Broken(), ManualClock(NOW), FacadeSettings(port=0), asyncio.Event()),
            DEADLINE_S,
        )


class _EndsWithError:
    async def __aiter__(self) -> AsyncIterator[Batch]:
        raise LookupError("a bug")
        yield

    async def acknowledge(self, batch: Batch) -> None:
        raise AssertionError(f"nothing was read, and yet {batch} is acknowledged")


def test_the_command_explains_itself() -> None:
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    assert "--max-event-bytes" in result.output
    assert "<member" not in result.output


NOT_HTTP = {
    "bad path": b"GET /a b HTTP/1.1\r\n\r\n",
    "not packed": b"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Encoding: gzip\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000,
}


@pytest.mark.parametrize("case", NOT_HTTP)
async def test_what_is_not_http_leaves_no_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture, case: str
) -> None:
    store = MemoryStore(clock=ManualClock(NOW))
    async with serving(store, MemoryBroker(clock=ManualClock(NOW))) as (http, _):
        address = http._base_url
        assert address is not None
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(NOT_HTTP[case])
        assert (await asyncio.wait_for(reader.readline(), DEADLINE_S)).split()[1] == b"400"
        writer.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
