"""Each of our processes is killed under load, and started again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import psycopg2
import pytest

from infra.servers.kafka.server import KafkaServer
from pipeline.settings import Connections
from tests.failures.checks import UNTOLD_BY_A_KILL, Allowance
from tests.failures.lab import FACADE, FLEET_STATS, PRODUCER, RELAY, SERVICES, WATCHDOG, WRITER, until
from tests.failures.scene import under_load
from tests.failures.workload import Workload

pytestmark = pytest.mark.integration

_APPLIED: Final = "SELECT sum(extract(epoch FROM last_updated)) FROM descriptions"
"""Grows with every batch that the writer commits."""


async def test_nothing_is_lost_or_doubled_when_each_process_is_killed_in_turn(
    kafka: KafkaServer, kafka_lab: Connections, tmp_path: Path
) -> None:
    async with under_load(kafka_lab, tmp_path, Workload(rate=2000), *SERVICES, FLEET_STATS) as scene:
        await scene.until_published(3000)
        with frozen(kafka):
            await until_committed(kafka_lab.database_url)
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


@contextmanager
def frozen(kafka: KafkaServer) -> Iterator[None]:
    """Until the end of the context nothing can be published or acknowledged."""
    kafka.pause()
    try:
        yield
    finally:
        kafka.resume()


async def until_committed(database_url: str) -> None:
    """Wait until the writer has committed a batch, whose changes it cannot publish now."""
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True

        def applied() -> float:
            cursor.execute(_APPLIED)
            (total,) = cursor.fetchone()
            return float(total or 0)

        before = applied()

        async def has_grown() -> bool:
            return applied() > before

        await until(has_grown, "the writer commits what it has in hand")
