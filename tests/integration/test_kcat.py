"""A program that is not ours speaks with the lab over Kafka: kcat, made with librdkafka, reports and reads changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.factory import open_store
from pipeline.settings import Connections
from pipeline.store.migrations import migrate
from schemas.envelope import CHANGE_TYPE, TYPE
from schemas.topics import MACHINE_CHANGES, MACHINE_EVENTS
from tests.servers.kinds import TestServer
from tests.unit.producers.labkeeper.command_line import labkeeper_beside

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("kcat") is None, reason="needs kcat: install it (Debian: kcat)"),
]

WITH_KEY: Final = "rack4-07"
WITHOUT_KEY: Final = "rack4-08"
_KCAT_S: Final = 60


def old_event(machine: str) -> bytes:
    """As the machine server's own monitor writes it: no sequence, fields that nobody reads any more."""
    return json.dumps(
        {
            "type": "raw_state",
            "android": {"getprop": "", "dumpsys_battery": "", "dumpsys_thermal_service": "", "uptime": 0},
            "ios": {"os_version": "13.3.1", "device_type": "iPhone10,1", "battery": 77},
            "standalone": {},
            "host": {
                "name": machine,
                "pod_name": "",
                "kubernetes_image": "",
                "version": "v1",
                "start_time": "2026-03-01T12:00:00Z",
            },
            "running_swarming_task": False,
            "launched_swarming": False,
        }
    ).encode()


class Kcat:
    """The program, for the topics of one lab."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix

    def produce(self, topic: str, value: bytes, *options: str) -> None:
        """One message, without headers."""
        self._run("-P", topic, *options, said=value)

    def consume(self, topic: str, count: int) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The first messages of a topic: headers and value by key."""
        lines = self._run("-C", topic, "-o", "beginning", "-c", str(count), "-f", "%k\t%h\t%s\n").splitlines()
        messages = [line.split("\t", 2) for line in lines]
        return {key: (headers, json.loads(value)) for key, headers, value in messages}

    def _run(self, mode: str, topic: str, *options: str, said: bytes = b"") -> str:
        done = subprocess.run(
            ["kcat", mode, "-q", "-b", self._bootstrap, "-t", f"{self._prefix}.{topic}", *options],
            input=said,
            capture_output=True,
            timeout=_KCAT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()


@contextmanager
def writer(environment: Mapping[str, str], log: Path) -> Iterator[None]:
    with (
        log.open("wb") as said,
        subprocess.Popen(
            [sys.executable, "-m", "consumers.description_writer"],
            env={**os.environ, **environment},
            stdout=said,
            stderr=said,
        ) as process,
    ):
        try:
            yield
            assert process.poll() is None, log.read_text()
        finally:
            process.kill()


async def test_an_old_event_of_a_foreign_client_becomes_a_row_and_a_change_that_it_can_read(
    kafka_server: TestServer, kafka_topic_prefix: str, database_url: str, tmp_path: Path
) -> None:
    migrate(database_url)
    environment = {
        "LABKEEPER_DATABASE_URL": database_url,
        "LABKEEPER_BROKER": "kafka",
        "LABKEEPER_KAFKA_SERVERS": kafka_server.address,
        "LABKEEPER_TOPIC_PREFIX": kafka_topic_prefix,
    }
    created = await labkeeper_beside("topics", "create", **environment)
    assert created.code == 0, created.err
    kcat = Kcat(kafka_server.address, kafka_topic_prefix)
    kcat.produce(MACHINE_EVENTS, old_event(WITH_KEY), "-k", WITH_KEY)
    kcat.produce(MACHINE_EVENTS, old_event(WITHOUT_KEY))

    with writer(environment, tmp_path / "writer.log"):
        changes = kcat.consume(MACHINE_CHANGES, 2)

    assert set(changes) == {WITH_KEY, WITHOUT_KEY}
    async with open_store(Connections(database_url)) as store:
        for machine, (headers, change) in changes.items():
            assert f"{TYPE}={CHANGE_TYPE}" in headers
            assert change["id"] == machine
            assert change["description"]["Battery"] == 77
            row = await store.get(machine)
            assert (row.row_version, row.battery) == (change["version"], 77)
