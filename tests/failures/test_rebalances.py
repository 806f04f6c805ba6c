"""Members of the writers' group come and go all the time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from consumers.description_writer.service import DescriptionWriter
from consumers.description_writer.settings import WriterSettings
from pipeline.clock import SystemClock
from pipeline.metrics import EVENTS_PROCESSED
from pipeline.settings import Connections
from tests.failures.lab import SECOND_WRITER, SERVICES, until
from tests.failures.scene import Scene, under_load
from tests.failures.workload import Workload

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

_VISITS: Final = 10
"""Each rearranges the group twice."""


async def test_two_writers_lose_and_double_nothing_while_a_third_comes_and_goes(
    kafka_lab: Connections, tmp_path: Path
) -> None:
    at_first = processed()
    async with under_load(kafka_lab, tmp_path, Workload(rate=1500), *SERVICES, SECOND_WRITER) as scene:
        await scene.until_published(3000)
        for _ in range(_VISITS):
            scene.check_under_load()
            await visit(scene)
        measured = await scene.check_outcome()
    assert measured.processed + processed() - at_first == measured.on_topic, (
        "work was done twice without need"
    )


async def visit(scene: Scene) -> None:
    """Join the group, do some of its work, and leave."""
    before = processed()
    stop = asyncio.Event()
    writer = DescriptionWriter(scene.store, scene.broker, SystemClock(), WriterSettings())
    writing = asyncio.create_task(writer.run(stop))

    async def has_worked() -> bool:
        return writing.done() or processed() > before

    await until(has_worked, "the third writer has got a share of the work")
    stop.set()
    await writing


def processed() -> float:
    """Events that writers in this very process have acknowledged."""
    (metric,) = EVENTS_PROCESSED.collect()
    return next(sample.value for sample in metric.samples if sample.name.endswith("_total"))
