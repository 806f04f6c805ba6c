"""The façade as a process, with PostgreSQL, writer and relay: what is posted comes out of the streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from infra.servers.child import free_ports
from pipeline.store.migrations import migrate
from tests.unit.consumers.facade.lab import SseClient

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0
ONE = "/api/v1/machines/rack4-07"

pytestmark = pytest.mark.integration


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    """Of processes that share a database with all its tables."""
    migrate(database_url)
    return {**os.environ, "LABKEEPER_DATABASE_URL": database_url, "LABKEEPER_LOG_FORMAT": "json"}


@contextlib.contextmanager
def process(environment: dict[str, str], module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of our services, killed at the end if need be."""
    with subprocess.Popen([sys.executable, "-m", module, *arguments], env=environment, cwd=ROOT) as started:
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                started.kill()
                raise


@contextlib.asynccontextmanager
async def facade(
    environment: dict[str, str],
) -> AsyncIterator[tuple[aiohttp.ClientSession, subprocess.Popen[bytes]]]:
    """A façade that is ready, and a client of it."""
    port = str(*free_ports(1))
    with process(environment, "consumers.facade", "--port", port) as started:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            await _until_ready(http, started)
            yield http, started


async def _until_ready(http: aiohttp.ClientSession, started: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            assert started.poll() is None, "the façade ended"
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with http.get("/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.05)


async def test_an_event_an_action_and_a_deletion_reach_the_streams(environment: dict[str, str]) -> None:
    with (
        process(environment, "consumers.description_writer"),
        process(environment, "consumers.outbox_relay"),
    ):
        async with facade(environment) as (http, started), http.get("/api/v1/machines/watch") as response:
            stream = SseClient(response)
            await stream.until("synced")
            event = {"type": "raw_state", "host": {"name": "rack4-07", "version": "v<1>"}}
            async with http.post("/json/v1/machine/event/", json=event) as posted:
                assert posted.status == 200
            change = await stream.next()
            machine = json.loads(change.data)
            assert change.event == "machine"
            assert (machine["Dimensions"]["id"], machine["Version"]) == (["rack4-07"], "v<1>")
            async with http.get("/json/v1/machine/description/rack4-07") as answered:
                assert json.loads(await answered.read()) == machine

            async with http.post("/_/machine/toggle_mode/rack4-07") as posted:
                assert posted.status == 200
            assert json.loads((await stream.next()).data)["MaintenanceMode"].startswith("local ")

            async with http.delete(ONE) as deleted:
                assert deleted.status == 204
            gone = await stream.next()
            assert (gone.event, gone.data) == ("deleted", '{"id":"rack4-07"}')

            started.send_signal(signal.SIGTERM)
            with pytest.raises(EOFError):
                await stream.next()
        assert started.returncode == 0


async def test_a_facade_that_starts_later_sees_what_is_there(environment: dict[str, str]) -> None:
    event = {"type": "raw_state", "host": {"name": "rack4-07"}}
    with process(environment, "consumers.description_writer"):
        async with facade(environment) as (http, _), http.get(ONE + "/watch") as response:
            stream = SseClient(response)
            await stream.until("synced")
            async with http.post("/api/v1/events", json=event) as posted:
                assert posted.status == 202
            seen = await stream.next()
        async with facade(environment) as (http, _), http.get("/api/v1/machines/watch") as response:
            beginning = await SseClient(response).until("synced")
    assert [each.data for each in beginning if each.event == "machine"] == [seen.data]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--host", "0.0.0.0"), "labkeeper token new"),
        (("--tokens", "/nowhere/tokens"), "cannot read the token file /nowhere/tokens"),
        (("--port", "taken"), "choose another --port"),
    ],
)
def test_what_keeps_the_facade_from_starting_is_told_in_one_sentence(
    environment: dict[str, str], arguments: tuple[str, str], says: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        name, value = arguments
        value = value if value != "taken" else str(taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, "-m", "consumers.facade", name, value],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    told = [line for line in ended.stderr.splitlines() if line.startswith("labkeeper: ")]
    assert len(told) == 1
    assert says in told[0]
