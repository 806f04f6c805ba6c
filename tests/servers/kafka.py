"""Apache Kafka for tests. Tests that kill or pause it start one of their own, see `infra/servers/kafka`."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient

from infra.servers.kafka.jars import check_programs, default_version
from infra.servers.kafka.server import KafkaServer
from tests.servers.docker import Container
from tests.servers.kinds import OwnServer, ServerKind, TestServer

VERSION: Final = os.environ.get("LABKEEPER_TEST_KAFKA_VERSION") or default_version()
"""Of the servers that the tests start themselves."""


@contextmanager
def new_topic_prefix(server: TestServer) -> Iterator[str]:
    """A prefix that nobody uses; topics with it are deleted afterwards."""
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    try:
        yield prefix
    finally:
        with ThreadPoolExecutor(1) as aside:  # the test's event loop may still be there
            aside.submit(asyncio.run, _delete_topics(server.address, prefix)).result()


async def _delete_topics(bootstrap: str, prefix: str) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        topics = [topic for topic in await client.list_topics() if topic.startswith(prefix)]
        if topics:
            await client.delete_topics(topics)
    finally:
        await client.close()


@contextmanager
def _from_jars(folder: Path) -> Iterator[str]:
    with KafkaServer.start(folder, version=VERSION) as server:
        yield server.bootstrap


KAFKA: Final = ServerKind(
    name="Kafka",
    variable="LABKEEPER_TEST_KAFKA",
    container=Container(
        image=f"apache/kafka:{VERSION}",
        port=9092,
        ready="Kafka Server started",
        environment={
            "KAFKA_NODE_ID": "1",
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://{address}",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
            "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        },
    ),
    own=OwnServer(
        words=f"the jars of Apache Kafka {VERSION}",
        check=lambda: check_programs(VERSION),
        running=_from_jars,
    ),
)
