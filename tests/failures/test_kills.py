"""Each of our processes is killed under load, and started again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

import psycopg2
import pytest

from infra.servers.kafka.server import KafkaServer
from pipeline.settings import Connections
from tests.failures.checks import UNTOLD_BY_A_KILL, Allowance
from tests.failures.lab import FACADE, FLEET_STATS, PRODUCER, RELAY, SERVICES, WATCHDOG, WRITER
from tests.failures.scene import Scene, under_load
from tests.failures.workload import Workload

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

_APPLIED: Final = "SELECT sum(extract(epoch FROM last_updated)) FROM descriptions"
"""Grows with every batch that the writer commits."""
_IN_HAND_S: Final = 2.0
"""A batch that the writer has in hand is committed within this."""


async def test_nothing_is_lost_or_doubled_when_each_process_is_killed_in_turn(
    kafka: KafkaServer, kafka_lab: Connections, tmp_path: Path
) -> None:
    async with under_load(kafka_lab, tmp_path, Workload(rate=2000), *SERVICES, FLEET_STATS) as scene:
        await scene.until_published(3000)
        async with caught_after_commit(scene, kafka, kafka_lab.database_url):
            scene.lab.kill(WRITER)
        scene.lab.start(WRITER)
        for victim in (RELAY, WATCHDOG, FACADE, PRODUCER, FLEET_STATS, WRITER):
            await scene.until_more()
            if victim == FLEET_STATS:
                await scene.until_logged(FLEET_STATS, "windows_told")
            scene.check_under_load()
            scene.lab.kill(victim)
            scene.lab.start(victim)
        measured = await scene.check_outcome(Allowance(untold_versions=2 * UNTOLD_BY_A_KILL))
    assert measured.replayed > 0, "no writer was killed between its commit and its acknowledgement"
    assert measured.windows > 1, "no statistics were told"


@asynccontextmanager
async def caught_after_commit(scene: Scene, kafka: KafkaServer, database_url: str) -> AsyncIterator[None]:
    """Freeze the broker just when the writer has a batch in hand: it commits, and can neither publish nor acknowledge."""
    try:
        while not await commits_while_frozen(kafka, database_url):
            kafka.resume()
            await scene.until_more(100)
        yield
    finally:
        kafka.resume()


async def commits_while_frozen(kafka: KafkaServer, database_url: str) -> bool:
    """Freeze the broker; tell whether the writer commits anything afterwards."""
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True

        def applied() -> float:
            cursor.execute(_APPLIED)
            (total,) = cursor.fetchone()
            return float(total or 0)

        kafka.pause()
        before = applied()
        deadline = time.monotonic() + _IN_HAND_S
        while time.monotonic() < deadline:
            if applied() > before:
                return True
            await asyncio.sleep(0.01)
    return False
