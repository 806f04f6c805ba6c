"""Fixtures that every kind of test may use. A server starts when the first test wants it, and serves the whole run."""

from __future__ import annotations

import gc
import signal
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Final

import hypothesis
import pytest
import structlog

from tests.servers import cockroachdb, postgres
from tests.servers.cockroachdb import COCKROACHDB
from tests.servers.kafka import KAFKA, new_topic_prefix
from tests.servers.kinds import TestServer
from tests.servers.postgres import POSTGRES
from tests.servers.pubsub import PUBSUB

_KINDS: Final = (POSTGRES, KAFKA, PUBSUB, COCKROACHDB)

hypothesis.settings.register_profile("labkeeper", deadline=None)  # a busy machine is no fault of the code
hypothesis.settings.load_profile("labkeeper")


def pytest_report_header() -> Sequence[str]:
    return [kind.announcement() for kind in _KINDS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = [str(report.longrepr) for report in terminalreporter.getreports("skipped")]
    for kind in _KINDS:
        for surprise in kind.surprises:
            terminalreporter.write_line(surprise, yellow=True)
        skipped = sum(kind.skipped(reason) for reason in reasons)
        if skipped:
            terminalreporter.write_line(f"skipped for want of {kind.name}: {skipped}", yellow=True)


@pytest.fixture(autouse=True)
def passing_log_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no test find logs set up by another: loggers of modules would keep what they were first used with."""
    configure = structlog.configure

    def configure_for_now(**settings: Any) -> None:
        configure(**{**settings, "cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", configure_for_now)
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(autouse=True)
def passing_signal_handlers() -> Iterator[None]:
    """Undo what a service that ran in this process did: when it ends it ignores signals, and children would inherit that."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def abandoned_connections(request: pytest.FixtureRequest) -> Iterator[None]:
    """Clean up behind aiokafka, which forgets connections to a server that does not answer, instead of closing them.

    Their warnings would otherwise be raised in whichever test the garbage is collected in.
    """
    yield
    if any("kafka" in name for name in request.fixturenames):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[TestServer]:
    """PostgreSQL; its address is a URL."""
    with POSTGRES.running_or_skip() as server:
        yield server


@pytest.fixture(scope="session")
def cockroachdb_server() -> Iterator[TestServer]:
    """CockroachDB; its address is a URL."""
    with COCKROACHDB.running_or_skip() as server:
        yield server


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[TestServer]:
    """Kafka; its address is what clients call the bootstrap servers."""
    with KAFKA.running_or_skip() as server:
        yield server


@pytest.fixture(scope="session")
def pubsub_server() -> Iterator[TestServer]:
    """Pub/Sub; its address is what belongs into `PUBSUB_EMULATOR_HOST`."""
    with PUBSUB.running_or_skip() as server:
        yield server


@pytest.fixture
def database_url(postgres_server: TestServer) -> Iterator[str]:
    """Address of a new, empty PostgreSQL database, dropped after the test."""
    with postgres.new_database(postgres_server) as url:
        yield url


@pytest.fixture
def cockroachdb_url(cockroachdb_server: TestServer) -> Iterator[str]:
    """Address of a new, empty CockroachDB database, dropped after the test."""
    with cockroachdb.new_database(cockroachdb_server) as url:
        yield url


@pytest.fixture
def kafka_topic_prefix(kafka_server: TestServer) -> Iterator[str]:
    """For the topics of one test, which are deleted after it."""
    with new_topic_prefix(kafka_server) as prefix:
        yield prefix
