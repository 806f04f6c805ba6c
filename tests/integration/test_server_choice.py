"""Which server a test run uses, and what it says about the ones that it cannot have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.servers.cache import CACHE_VARIABLE
from tests.servers.cockroachdb import COCKROACHDB
from tests.servers.kafka import KAFKA
from tests.servers.kinds import ServerKind
from tests.servers.postgres import POSTGRES
from tests.servers.pubsub import PUBSUB

pytestmark = pytest.mark.integration

KINDS = [POSTGRES, KAFKA, PUBSUB, COCKROACHDB]
_ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def unprepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """No addresses in the environment, no Docker engine."""
    for kind in KINDS:
        monkeypatch.delenv(kind.variable, raising=False)
    monkeypatch.setattr("tests.servers.kinds.docker_answers", lambda: False)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_address_in_the_environment_comes_first_and_a_container_second(
    kind: ServerKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.servers.kinds.docker_answers", lambda: True)
    assert kind.choice() == f"a container of {kind.container.image}"
    monkeypatch.setenv(kind.variable, "server:1234")
    with kind.running() as server:
        assert server.address == "server:1234"
        assert server.choice == f"the server in {kind.variable}"


def test_a_kind_that_cannot_be_had_is_skipped_with_what_would_help() -> None:
    told = rf"needs CockroachDB: no Docker engine answers.* address of a server in {COCKROACHDB.variable}"
    with pytest.raises(pytest.skip.Exception, match=told), COCKROACHDB.running_or_skip():
        pass
    assert COCKROACHDB.announcement().startswith("CockroachDB for tests: none (no Docker engine answers")


def test_the_report_says_what_is_missing_and_how_many_tests_that_costs(tmp_path: Path) -> None:
    bare = {
        **os.environ,
        "PATH": str(tmp_path),
        CACHE_VARIABLE: str(tmp_path),
        "DOCKER_HOST": f"unix://{tmp_path}/none",
    }
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "tests/integration/test_pubsub_server.py"],
        cwd=_ROOT,
        env=bare,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Pub/Sub for tests: none (there is no Go" in done.stdout, done.stdout + done.stderr
    assert "Kafka for tests: none (there is no Java" in done.stdout
    assert "skipped for want of Pub/Sub: 5" in done.stdout
    assert "5 skipped" in done.stdout
    assert done.returncode == 0
