"""The Kafka servers that tests start: they come back with their data, and outlive nobody."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.servers.cache import CACHE_VARIABLE
from infra.servers.child import HOST
from infra.servers.errors import ServerUnavailable
from infra.servers.kafka.jars import jars
from infra.servers.kafka.server import KafkaCluster, KafkaServer
from tests.e2e.processes import eventually
from tests.servers.kafka import KAFKA, VERSION
from tests.servers.kinds import temporary_folder

pytestmark = pytest.mark.integration

TOPIC = "kept"


@pytest.fixture
def folder() -> Iterator[Path]:
    with KAFKA.needed(), temporary_folder() as path:
        jars(VERSION)
        yield path


async def create_topic(bootstrap: str, *, replicas: int = 1) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        answer = await client.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=replicas)])
    finally:
        await client.close()
    assert [error for _, error, _ in answer.topic_errors] == [0]


async def publish(bootstrap: str, *texts: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        for text in texts:
            await producer.send_and_wait(TOPIC, text.encode())


async def read(bootstrap: str, count: int) -> Sequence[str]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(TOPIC, 0)])
        return [(await consumer.getone()).value.decode() for _ in range(count)]


async def test_a_killed_server_comes_back_with_its_messages_at_the_same_address(folder: Path) -> None:
    with KafkaServer.start(folder, version=VERSION) as server:
        before = server.bootstrap
        await create_topic(before)
        await publish(before, "one", "two")
        server.kill()
        assert not server.running
        server.restart()
        assert server.bootstrap == before
        assert await read(before, 2) == ["one", "two"]
        server.pause()
        with socket.create_connection((HOST, int(before.split(":")[1])), 5):
            assert server.running  # and takes connections, but does not answer
        server.resume()
        await publish(before, "three")
        assert await read(before, 3) == ["one", "two", "three"]


async def test_a_cluster_works_on_with_two_nodes_and_takes_the_third_back(folder: Path) -> None:
    with KafkaCluster.start(folder, version=VERSION) as cluster:
        await create_topic(cluster.bootstrap, replicas=3)
        await publish(cluster.bootstrap, "with three")
        cluster.nodes[0].kill()
        await publish(cluster.bootstrap, "with two")
        cluster.nodes[0].restart()
        assert await read(cluster.nodes[0].bootstrap, 2) == ["with three", "with two"]


def test_nothing_is_left_of_a_server_whose_starter_was_killed(folder: Path) -> None:
    command = [sys.executable, "-m", "infra.servers.kafka", "--folder", str(folder), "--version", VERSION]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline().startswith(HOST)
        started = psutil.Process(starter.pid).children(recursive=True)
        assert any("java" in process.name() for process in started)
        starter.send_signal(signal.SIGKILL)
        starter.wait()
    eventually(lambda: not any(map(psutil.Process.is_running, started)), "all of them end", within_s=20)


@pytest.mark.parametrize("version", ["latest", "4.0", "../../etc", "4.0.0 -X"])
def test_what_is_no_version_is_not_asked_for(version: str) -> None:
    with pytest.raises(ServerUnavailable, match="is no version of Apache Kafka"):
        jars(version)


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    found = {"java": "/usr/bin/java"}
    monkeypatch.setattr(shutil, "which", found.get)
    monkeypatch.delenv(KAFKA.variable, raising=False)
    monkeypatch.setattr("tests.servers.kinds.docker_answers", lambda: False)
    with pytest.raises(ServerUnavailable, match=r"no Maven .*\(Debian: maven\)"):
        KAFKA.choice()
    found.clear()
    with pytest.raises(ServerUnavailable, match=r"no Java: .*\(Debian: default-jre-headless\)"):
        KAFKA.choice()
    with (
        pytest.raises(pytest.skip.Exception, match=f"needs Kafka: .*{KAFKA.variable}"),
        KAFKA.running_or_skip(),
    ):
        pass
