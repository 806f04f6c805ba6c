"""Labs under failure. Kafka is one of our own, because it is killed and paused as well."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from infra.servers.kafka.server import KafkaServer
from pipeline.processor.pools import Pools
from pipeline.settings import BrokerKind, Connections, KafkaSettings
from tests.failures.workload import POOLS
from tests.servers.kafka import KAFKA, VERSION
from tests.servers.kinds import temporary_folder


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    """A single node."""
    with KAFKA.needed(), temporary_folder() as folder, KafkaServer.start(folder, version=VERSION) as server:
        yield server


@pytest.fixture
def kafka_lab(kafka: KafkaServer, database_url: str) -> Connections:
    """A lab of its own on the single node."""
    return lab_on(kafka.bootstrap, database_url)


def lab_on(bootstrap: str, database_url: str) -> Connections:
    """A lab without topics yet."""
    return Connections(
        database_url,
        BrokerKind.KAFKA,
        topic_prefix=f"failures-{uuid.uuid4().hex[:8]}",
        pools=Pools(POOLS),
        kafka=KafkaSettings(servers=tuple(bootstrap.split(","))),
    )
