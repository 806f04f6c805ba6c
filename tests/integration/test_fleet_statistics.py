"""The statistics' processes are killed at any moment; in the end each window is told as by one who read undisturbed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consumers.fleet_stats.faust_end import END_S
from consumers.fleet_stats.settings import FAUST_GROUP
from pipeline.broker.protocol import Broker, Outgoing
from pipeline.clock import SystemClock
from pipeline.factory import open_broker
from pipeline.settings import BrokerKind, Connections, KafkaSettings
from pipeline.store.migrations import migrate
from schemas.topics import MACHINE_CHANGES, dead_letters_of
from tests.integration.fleet_statistics import (
    WINDOW,
    Story,
    Windows,
    every_message,
    expected,
    publish,
    read_all,
    running,
    stop,
    told,
    told_until,
)
from tests.integration.kafka_lab import own_server
from tests.servers.kinds import TestServer
from tests.servers.postgres import new_database

pytestmark = pytest.mark.integration


@pytest.fixture
def embedded(database_url: str) -> Connections:
    migrate(database_url)
    return Connections(database_url)


@pytest.fixture
def kafka(database_url: str, kafka_server: TestServer, kafka_topic_prefix: str) -> Connections:
    migrate(database_url)
    settings = KafkaSettings((kafka_server.address,))
    return Connections(database_url, BrokerKind.KAFKA, kafka_topic_prefix, kafka=settings)


@contextlib.asynccontextmanager
async def opened(lab: Connections) -> AsyncIterator[Broker]:
    """The lab's broker, with its topics."""
    async with open_broker(lab) as broker:
        await broker.create_topics()
        yield broker


async def go_on(broker: Broker, story: Story, times: int = 20) -> None:
    """Some changes, a twentieth of a second apart."""
    for _ in range(times):
        await publish(broker, story.some(8))
        await asyncio.sleep(0.05)


async def said(log: Path, pattern: str) -> None:
    """Once the log has it."""
    async with asyncio.timeout(60):
        while not re.search(pattern, await asyncio.to_thread(log.read_text)):
            await asyncio.sleep(0.1)


async def all_read(broker: Broker) -> None:
    """Once Faust has committed everything."""
    async with asyncio.timeout(60):
        while any(lag.unread for lag in await broker.lag(MACHINE_CHANGES, group=FAUST_GROUP)):
            await asyncio.sleep(0.2)


async def first_window(broker: Broker, tell: Callable[[], str]) -> datetime:
    """Where the first window begins, once it is told."""
    begin = datetime(1970, 1, 1, tzinfo=UTC)
    await told_until(broker, begin, tell)
    return min(start for _, start in await told(broker))


async def first_window_of_both(broker: Broker, tell: Callable[[], str]) -> datetime:
    """Where the first window begins that both have told."""
    await told_until(broker, datetime(1970, 1, 1, tzinfo=UTC), tell, times=2)
    return min(start for (_, start), found in (await every_message(broker)).items() if len(found) > 1)


async def disturbed(lab: Connections, runner: str, log: Path, *, kills: int) -> tuple[Windows, Windows]:
    """What is told while the process is killed again and again, and what should be."""
    chance, story = random.Random(7), Story(seed=1)
    async with opened(lab) as broker:
        with contextlib.ExitStack() as stack:
            process = stack.enter_context(running(lab, runner, log))
            first = await first_window(broker, log.read_text)
            for _ in range(kills):
                await go_on(broker, story, chance.randint(10, 30))
                process.kill()
                await publish(broker, story.some(30))
                process = stack.enter_context(running(lab, runner, log))
            await go_on(broker, story)
            end = SystemClock().now() + WINDOW
            windows = await told_until(broker, end, log.read_text)
            last = max(each.window_end for each in windows.values())
            assert await asyncio.to_thread(stop, process) == 0, log.read_text()  # noqa: ASYNC240
        messages = await every_message(broker)
        assert all(each == found[0] for found in messages.values() for each in found)
        return windows, await expected(broker, first, last)


async def test_a_plain_loop_that_is_killed_again_and_again_loses_and_doubles_no_window(
    embedded: Connections, tmp_path: Path
) -> None:
    windows, should = await disturbed(embedded, "plain", tmp_path / "log", kills=1)

    assert windows == should


async def test_a_plain_loop_that_sleeps_through_its_expulsion_does_no_harm_when_it_wakes(
    embedded: Connections, tmp_path: Path
) -> None:
    story, log = Story(seed=3), tmp_path / "log"
    async with opened(embedded) as broker:
        with running(embedded, "plain", tmp_path / "sleeper.log") as sleeper:
            first = await first_window(broker, log.read_text)
            with running(embedded, "plain", log):
                await go_on(broker, story)
                sleeper.send_signal(signal.SIGSTOP)
                await go_on(broker, story)
                await told_until(broker, SystemClock().now(), log.read_text)
                sleeper.send_signal(signal.SIGCONT)
                await go_on(broker, story)
                windows = await told_until(broker, SystemClock().now() + WINDOW, log.read_text)
        should = await expected(broker, first, max(each.window_end for each in windows.values()))
        assert windows == should
        messages = await every_message(broker)
        assert all(each == found[0] for found in messages.values() for each in found)
    assert "overtaken" in (tmp_path / "sleeper.log").read_text()


async def test_a_faust_worker_that_is_killed_again_and_again_loses_and_doubles_no_window(
    kafka: Connections, tmp_path: Path
) -> None:
    windows, should = await disturbed(kafka, "faust", tmp_path / "log", kills=2)

    assert windows == should


async def test_a_faust_worker_ends_when_asked_to_although_kafka_is_away(
    database_url: str, tmp_path: Path
) -> None:
    """Also one that reads, and whose last records Kafka has not taken."""
    migrate(database_url)
    log = tmp_path / "log"
    with own_server() as server:
        settings = KafkaSettings((server.bootstrap,))
        lab = Connections(database_url, BrokerKind.KAFKA, "frail", kafka=settings)
        with running(lab, "faust", log) as process:
            async with opened(lab) as broker:
                await first_window(broker, log.read_text)
                await publish(broker, Story(seed=4).some(30))
            server.kill()
            await said(log, "NodeNotReady|changelog_slow|broker_unavailable|Unable")
            began = time.monotonic()
            code = await asyncio.to_thread(stop, process)
    text = await asyncio.to_thread(log.read_text)
    assert time.monotonic() - began < END_S + 30, text
    assert code == 0, text
    assert "Traceback" not in text


async def test_a_bad_message_is_parked_once_although_the_worker_is_killed_later(
    kafka: Connections, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with opened(kafka) as broker:
        with running(kafka, "faust", log) as process:
            await publish(broker, [Outgoing(MACHINE_CHANGES, "rack0-00", b"{"), *Story(seed=5).some(9)])
            await first_window(broker, log.read_text)
            await all_read(broker)
            process.kill()
        with running(kafka, "faust", log):
            await publish(broker, Story(seed=6).some(9))
            await told_until(broker, SystemClock().now() + WINDOW, log.read_text)
            await all_read(broker)
        assert len(await read_all(broker, dead_letters_of(MACHINE_CHANGES))) == 1


async def test_both_runners_tell_the_same_of_the_same_changes(
    kafka: Connections, postgres_server: TestServer, tmp_path: Path
) -> None:
    """At the same time, each with a database of its own, so that neither stands by; both write to the same topic."""
    story, log = Story(seed=2), tmp_path / "log"
    async with opened(kafka) as broker:
        with new_database(postgres_server) as other_database:
            migrate(other_database)
            with (
                running(kafka, "faust", log),
                running(replace(kafka, database_url=other_database), "plain", log),
            ):
                first = await first_window_of_both(broker, log.read_text)
                await go_on(broker, story, 50)
                await told_until(broker, SystemClock().now() + WINDOW, log.read_text, times=2)

        messages = await every_message(broker)
        twice = {place: found for place, found in messages.items() if place[1] >= first and len(found) > 1}
        should = await expected(broker, first, max(found[0].window_end for found in twice.values()))
        assert {place: found[0] for place, found in twice.items()} == should
        assert all(each == found[0] for found in messages.values() for each in found)
