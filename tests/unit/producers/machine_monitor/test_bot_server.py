from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient, TestServer

from pipeline.errors import Misconfigured
from producers.machine_monitor.belief import Belief
from producers.machine_monitor.bot_server import BotServer
from producers.machine_monitor.interrogation import TaskState
from schemas.description import Description


class Bench:
    """A server for the Swarming bot, and what it is connected to."""

    def __init__(self) -> None:
        self.belief = Belief()
        self.tasks = TaskState()
        self.ended_tasks = 0
        self.server = BotServer(
            "machine-1", self.belief, self.tasks, rack="rack-3", on_task_end=self._on_task_end
        )
        self.client: TestClient = TestClient(TestServer(self.server.app()))  # type: ignore[type-arg]

    def _on_task_end(self) -> None:
        self.ended_tasks += 1


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    async with bench.client:
        yield bench


async def test_state_is_returned_with_the_rack_and_without_quarantine(bench: Bench) -> None:
    answer = await bench.client.post(
        "/get_state", json={"foo": "bar", "quarantined": "x", "maintenance": "y", "sk_rack": "old"}
    )
    assert answer.status == 200
    assert await answer.json() == {"foo": "bar", "sk_rack": "rack-3"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000])
async def test_state_that_is_no_object_is_an_error(bench: Bench, body: bytes) -> None:
    answer = await bench.client.post("/get_state", data=body)
    assert answer.status == 500


async def test_settings_bound_the_cache(bench: Bench) -> None:
    answer = await bench.client.get("/get_settings")
    assert await answer.json() == {"caches": {"isolated": {"size": 8589934592}}}


async def test_dimensions_of_the_description_replace_the_bots(bench: Bench) -> None:
    bench.belief.replace(
        Description(dimensions={"os": ["Android"], "empty": [], "none": None, "device_type": ["sargo"]})
    )
    answer = await bench.client.post(
        "/get_dimensions", json={"os": ["Linux", "Debian"], "pool": ["Skia"], "empty": ["kept"], "null": None}
    )
    assert await answer.json() == {
        "os": ["Android"],
        "pool": ["Skia"],
        "empty": ["kept"],
        "null": None,
        "device_type": ["sargo"],
    }


async def test_before_anything_is_known_the_bots_own_dimensions_stay(bench: Bench) -> None:
    answer = await bench.client.post("/get_dimensions", json={"id": ["x"]})
    assert await answer.json() == {"id": ["x"]}


async def test_no_dimensions_at_all_are_an_error(bench: Bench) -> None:
    answer = await bench.client.post("/get_dimensions", json={})
    assert answer.status == 500
    assert await answer.text() == "No valid Dimensions to report\n{}\n"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"os": "Linux"}', b'{"os": [1]}'])
async def test_dimensions_that_are_no_lists_of_texts_are_an_error(bench: Bench, body: bytes) -> None:
    answer = await bench.client.post("/get_dimensions", data=body)
    assert answer.status == 500


async def test_a_task_is_known_to_run_between_its_two_calls(bench: Bench) -> None:
    assert (await bench.client.get("/on_before_task")).status == 200
    assert bench.tasks.running
    assert bench.ended_tasks == 0
    assert (await bench.client.get("/on_after_task")).status == 200
    assert not bench.tasks.running
    assert bench.ended_tasks == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/get_state", 405),
        ("POST", "/on_before_task", 405),
        ("GET", "/x", 404),
    ],
)
async def test_other_requests(bench: Bench, method: str, path: str, status: int) -> None:
    assert (await bench.client.request(method, path)).status == status


async def test_a_port_that_is_taken_says_what_to_do(bench: Bench) -> None:
    other = BotServer("machine-2", bench.belief, bench.tasks, rack="", on_task_end=lambda: None)
    async with bench.server.listening("127.0.0.1", 0) as port:
        with pytest.raises(Misconfigured, match="--port"):
            async with other.listening("127.0.0.1", port):
                pass
