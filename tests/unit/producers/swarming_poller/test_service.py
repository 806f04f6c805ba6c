"""Rounds against a Swarming server on loopback, and what they do to the lab."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from pipeline import metrics
from pipeline.broker.memory import MemoryBroker
from pipeline.clock import ManualClock
from pipeline.errors import Misconfigured, Overloaded, Rejected
from pipeline.processor.process import process
from producers.swarming_poller import client
from producers.swarming_poller.__main__ import command
from producers.swarming_poller.client import SwarmingClient, SwarmingUnavailable
from producers.swarming_poller.service import Poller
from producers.swarming_poller.settings import PollerSettings, PoolOfBots, TokenSource
from producers.swarming_poller.token import read_token
from schemas.description import Description
from schemas.event import Event
from schemas.topics import MACHINE_EVENTS
from tests.unit.producers.swarming_poller.swarming_server import SwarmingServer, bot, swarming_server

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DEADLINE_S = 60
POOL = "Skia"


@asynccontextmanager
async def polling(
    *servers: SwarmingServer, pools: Sequence[str] = (POOL,), **settings: Any
) -> AsyncIterator[tuple[Poller, MemoryBroker]]:
    broker = MemoryBroker()
    wanted = tuple(PoolOfBots(server.url, pool) for server in servers for pool in pools)
    chosen = PollerSettings(wanted, **{"requests_per_second": 1000.0, **settings})
    async with aiohttp.ClientSession() as session, asyncio.timeout(DEADLINE_S):
        yield Poller(session, broker, ManualClock(NOW), chosen), broker
    await broker.close()


async def told(broker: MemoryBroker) -> dict[str, Event]:
    """The latest event about each bot."""
    messages = await broker.fetch(MACHINE_EVENTS, limit=10_000)
    events = sorted(
        (Event.model_validate_json(each.value) for each in messages), key=lambda event: event.sequence or 0
    )
    return {event.host.name: event for event in events}


async def test_a_dead_bot_is_a_machine_that_is_down() -> None:
    async with (
        swarming_server(bots={POOL: [bot("dead", isDead=True), bot("well", taskId="5a1")]}) as server,
        polling(server) as (poller, broker),
    ):
        await poller.poll(asyncio.Event())
        events = await told(broker)
    dead, well = (
        process(Description.new(name, now=NOW), events[name], now=NOW).after for name in ("dead", "well")
    )
    assert dead.down_since == datetime(2026, 3, 1, 11, 40, 0, 123456, UTC)
    assert not well.is_down
    assert well.running_swarming_task
    assert well.dimensions == {"id": ["well"], "os": ["Linux", "Debian"]}


async def test_all_pages_are_read_and_deleted_bots_left_out() -> None:
    bots = [bot(f"b{number}") for number in range(7)]
    bots[3]["deleted"] = True
    async with swarming_server(bots={POOL: bots}, page=2) as server, polling(server) as (poller, broker):
        await poller.poll(asyncio.Event())
        assert sorted(await told(broker)) == ["b0", "b1", "b2", "b4", "b5", "b6"]
    assert [body["cursor"] for _, body in server.asked] == ["", "2", "4", "6"]


async def test_a_bot_that_is_deleted_is_down_no_longer() -> None:
    async with (
        swarming_server(bots={POOL: [bot("gone", isDead=True), bot("well")]}) as server,
        polling(server) as (poller, broker),
    ):
        await poller.poll(asyncio.Event())
        dead = (await told(broker))["gone"]
        server.bots[POOL] = [bot("well")]
        await poller.poll(asyncio.Event())
        events = await told(broker)
        await poller.poll(asyncio.Event())
        assert (await told(broker))["gone"] == events["gone"]  # once is enough
    down = process(Description.new("gone", now=NOW), dead, now=NOW).after
    after = process(down, events["gone"], now=NOW).after
    assert down.is_down
    assert not after.is_down
    assert after.recovering == "Maintenance in Swarming: deleted there"


async def test_a_bot_that_may_have_moved_to_a_pool_that_was_not_read_is_not_deleted() -> None:
    async with (
        swarming_server(bots={"A": [bot("b")]}) as server,
        polling(server, pools=("A", "B")) as (poller, broker),
    ):
        await poller.poll(asyncio.Event())
        before = (await told(broker))["b"]
        server.bots = {"B": [bot("b")]}
        server.fails_for = {"B"}
        await poller.poll(asyncio.Event())
        assert (await told(broker))["b"] == before
        server.fails_for = set()
        await poller.poll(asyncio.Event())
        moved = (await told(broker))["b"]
    assert moved.sequence == 3
    assert process(Description.new("b", now=NOW), moved, now=NOW).after.recovering == ""


async def test_a_long_page_is_read_to_its_end() -> None:
    bots = [bot(f"b{number}", state="x" * 20_000) for number in range(200)]
    async with swarming_server(bots={POOL: bots}) as server, polling(server) as (poller, broker):
        await poller.poll(asyncio.Event())
        assert len(await told(broker)) == 200


async def test_a_pool_that_fails_does_not_hold_up_the_others() -> None:
    async with swarming_server(bots={"B": [bot("b")]}, answers=[(500, {}, b"oops")]) as server:
        async with polling(server, pools=("A", "B")) as (poller, broker):
            await poller.poll(asyncio.Event())
            assert sorted(await told(broker)) == ["b"]
        failed = metrics.SWARMING_POLLS.labels(server.url, "A", "failed")
        assert failed._value.get() == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((200, {}, b"<html>"), id="no-json"),
        pytest.param((200, {}, b")]}'\n[]"), id="no-list-of-bots"),
        pytest.param((302, {"Location": "https://elsewhere.example"}, b""), id="a-redirect"),
        pytest.param((404, {}, b"no such thing"), id="not-found"),
        pytest.param((403, {}, b"no access"), id="forbidden"),
        pytest.param((429, {"Retry-After": "0"}, b"slowly"), id="too-fast"),
    ],
)
async def test_a_bad_answer_leaves_the_lab_as_it_is_and_the_next_round_works(
    answer: tuple[int, dict[str, str], bytes],
) -> None:
    async with (
        swarming_server(bots={POOL: [bot("b")]}, answers=[answer]) as server,
        polling(server) as (poller, broker),
    ):
        await poller.poll(asyncio.Event())
        assert await told(broker) == {}
        await poller.poll(asyncio.Event())
        assert list(await told(broker)) == ["b"]


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (401, Misconfigured, "Give an access token"),
        (403, Misconfigured, "Give an access token"),
        (429, Overloaded, "answers 429"),
        (503, Overloaded, "answers 503"),
        (500, SwarmingUnavailable, "answers 500"),
        (302, Rejected, "answers 302"),
        (404, Rejected, "answers 404"),
    ],
)
async def test_each_refusal_is_called_what_it_is(status: int, error: type[Exception], said: str) -> None:
    answer = (status, {"Location": "https://elsewhere.example", "Retry-After": "0"}, b"no")
    async with swarming_server(answers=[answer]) as server, aiohttp.ClientSession() as session:
        pool = PoolOfBots(server.url, POOL)
        asking = SwarmingClient(session, server.url, PollerSettings((pool,)))
        with pytest.raises(error, match=said):
            [each async for each in asking.bots(pool, "token")]


async def test_an_answer_without_end_is_no_list_of_bots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MAX_ANSWER", 1000)
    async with (
        swarming_server(bots={POOL: [bot("b", state="x" * 1000)]}) as server,
        aiohttp.ClientSession() as session,
    ):
        pool = PoolOfBots(server.url, POOL)
        asking = SwarmingClient(session, server.url, PollerSettings((pool,)))
        with pytest.raises(Rejected, match="more than 1000 bytes"):
            [each async for each in asking.bots(pool, None)]


async def test_a_server_that_gives_the_same_page_again_and_again_is_left() -> None:
    page: tuple[int, dict[str, str], bytes] = (200, {}, b'{"items": [{"botId": "b"}], "cursor": "again"}')
    async with swarming_server(answers=[page, page]) as server, polling(server) as (poller, broker):
        await poller.poll(asyncio.Event())
        assert list(await told(broker)) == ["b"]
    assert len(server.asked) == 2


async def test_a_server_that_is_away_is_no_reason_to_stop() -> None:
    away = SwarmingServer(url="http://127.0.0.1:1")
    async with (
        swarming_server(bots={POOL: [bot("b")]}) as server,
        polling(away, server) as (poller, broker),
    ):
        await poller.poll(asyncio.Event())
        assert list(await told(broker)) == ["b"]


async def test_requests_keep_their_distance() -> None:
    bots = [bot(f"b{number}") for number in range(4)]
    async with (
        swarming_server(bots={POOL: bots}, page=1) as server,
        polling(server, requests_per_second=20.0) as (poller, _),
    ):
        began = time.monotonic()
        await poller.poll(asyncio.Event())
    times = [at for at, _ in server.asked]
    assert len(times) == 4
    assert times[-1] - began >= 3 / 20 * 0.9


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_wants_a_rest_gets_it(status: int) -> None:
    async with (
        swarming_server(bots={POOL: [bot("b")]}, answers=[(status, {"Retry-After": "1"}, b"")]) as server,
        polling(server) as (poller, _),
    ):
        await poller.poll(asyncio.Event())
        await poller.poll(asyncio.Event())
    first, second = (at for at, _ in server.asked)
    assert second - first >= 0.9


async def test_a_token_is_read_anew_in_each_round(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    async with (
        swarming_server(bots={POOL: [bot("b")]}, token="new") as server,
        polling(server, token=TokenSource(file)) as (poller, broker),
    ):
        await poller.poll(asyncio.Event())
        assert await told(broker) == {}
        file.write_text("new\n")
        await poller.poll(asyncio.Event())
        assert list(await told(broker)) == ["b"]


async def test_a_program_may_print_the_token() -> None:
    prints = TokenSource(command=(sys.executable, "-c", "print('secret')"))
    assert await read_token(prints) == "secret"


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (TokenSource(command=(sys.executable, "-c", "raise SystemExit(3)")), "exit code 3"),
        (TokenSource(command=("/no/such/program",)), "cannot run /no/such/program"),
        (TokenSource(Path("/no/such/file")), "cannot read the token from /no/such/file"),
    ],
)
async def test_a_token_that_cannot_be_had_is_one_clear_sentence(source: TokenSource, complaint: str) -> None:
    with pytest.raises(Misconfigured, match=complaint):
        await read_token(source)


@pytest.mark.parametrize("text", ["", "two\nlines", "two words", "bell\a", "tök"])
async def test_what_no_header_can_carry_is_no_token_and_the_poller_goes_on(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    async with (
        swarming_server(bots={POOL: [bot("b")]}, token="new") as server,
        polling(server, token=TokenSource(file)) as (poller, broker),
    ):
        await poller.poll(asyncio.Event())
        assert server.asked == []
        file.write_text("new\n")
        await poller.poll(asyncio.Event())
        assert list(await told(broker)) == ["b"]


async def test_a_token_of_the_environment_may_end_with_a_line() -> None:
    assert await read_token(TokenSource(value="secret\n")) == "secret"


async def test_a_bot_whose_id_no_machine_can_have_is_left_out() -> None:
    async with (
        swarming_server(bots={POOL: [bot("a/b"), bot("well")]}) as server,
        polling(server) as (poller, broker),
    ):
        await poller.poll(asyncio.Event())
        assert list(await told(broker)) == ["well"]


async def test_a_bot_in_two_pools_is_told_of_once_in_effect() -> None:
    async with (
        swarming_server(bots={"A": [bot("b")], "B": [bot("b", isDead=True)]}) as server,
        polling(server, pools=("A", "B")) as (poller, broker),
    ):
        await poller.poll(asyncio.Event())
        first, second = [Event.model_validate_json(each.value) for each in await broker.fetch(MACHINE_EVENTS)]
    machine = process(Description.new("b", now=NOW), first, now=NOW).after
    assert process(machine, second, now=NOW).replayed


async def test_it_polls_round_after_round_until_told_to_stop() -> None:
    async with (
        swarming_server(bots={POOL: [bot("b")]}) as server,
        polling(server, period=timedelta(milliseconds=20)) as (poller, broker),
    ):
        stop = asyncio.Event()
        running = asyncio.create_task(poller.run(stop))
        while len(server.asked) < 3:
            await asyncio.sleep(0.01)
        stop.set()
        await running
        assert (await told(broker))["b"].sequence >= 2  # type: ignore[operator]  # the poller counts


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--bots", "Skia"], "expected SERVER=POOL"),
        (["--bots", "ftp://x=Skia"], "expected SERVER=POOL"),
        (["--bots", "http://swarm.example=Skia"], "must not travel in the clear"),
        (["--bots", "https://swarm.example=Skia"], "say where the broker is"),
    ],
)
def test_a_mistake_on_the_command_line_is_told(arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(command, arguments, env={"LABKEEPER_DATABASE_URL": ""})
    assert result.exit_code == 2
    assert complaint in result.output
