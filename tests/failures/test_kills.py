"""Each of our processes is killed under load, and started again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.settings import Connections
from tests.failures.checks import Allowance
from tests.failures.lab import FACADE, PRODUCER, RELAY, WATCHDOG, WRITER
from tests.failures.scene import under_load
from tests.failures.workload import Workload

pytestmark = pytest.mark.integration


async def test_nothing_is_lost_or_doubled_when_each_process_is_killed_in_turn(
    kafka_lab: Connections, tmp_path: Path
) -> None:
    async with under_load(kafka_lab, tmp_path, Workload()) as scene:
        await scene.until_published(3000)
        for victim in (WRITER, RELAY, WATCHDOG, FACADE, PRODUCER, WRITER):
            scene.check_under_load()
            scene.lab.kill(victim)
            scene.lab.start(victim)
            await scene.until_more()
        await scene.check_outcome(Allowance(untold_versions=6))
