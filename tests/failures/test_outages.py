"""Kafka goes away: all of it for half a minute, or one of three brokers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from consumers.description_writer.settings import GROUP
from infra.servers.kafka.node import KafkaNode
from infra.servers.kafka.server import KafkaCluster, KafkaServer
from pipeline.settings import Connections
from schemas.topics import MACHINE_EVENTS
from tests.failures.conftest import lab_on
from tests.failures.scene import under_load
from tests.failures.workload import Workload
from tests.servers.kafka import KAFKA, VERSION
from tests.servers.kinds import temporary_folder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

_AWAY_S: Final = 30.0


async def test_a_lab_whose_broker_is_away_for_half_a_minute_goes_on_where_it_was(
    kafka: KafkaServer, kafka_lab: Connections, tmp_path: Path
) -> None:
    async with under_load(kafka_lab, tmp_path, Workload()) as scene:
        await scene.until_published(15_000)
        kafka.kill()
        await asyncio.sleep(_AWAY_S)
        scene.check_under_load()
        await asyncio.to_thread(kafka.restart)
        await scene.check_outcome()


async def test_a_lab_does_without_one_broker_of_three(database_url: str, tmp_path: Path) -> None:
    with KAFKA.needed(), temporary_folder() as folder, KafkaCluster.start(folder, version=VERSION) as cluster:
        lab = lab_on(cluster.bootstrap, database_url)
        async with under_load(lab, tmp_path, Workload()) as scene:
            await scene.until_published(10_000)
            victim = await coordinator(cluster, lab)
            victim.kill()
            await scene.until_more(10_000)
            scene.check_under_load()
            await asyncio.to_thread(victim.restart)
            await scene.check_outcome()


async def coordinator(cluster: KafkaCluster, lab: Connections) -> KafkaNode:
    """The node that keeps the writers' group, and leads about a third of the partitions."""
    client = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await client.start()
    try:
        node_id = await client.find_coordinator(f"{lab.topic_prefix}.{MACHINE_EVENTS}.{GROUP}")
    finally:
        await client.close()
    return next(node for node in cluster.nodes if node.node_id == node_id)
