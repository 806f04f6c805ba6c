"""Fixtures that every kind of test may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.servers.postgres_home import PostgresFailed
from tests.servers import TestServer, choose_server, new_database, running_server, why_unavailable


def pytest_report_header() -> str:
    return f"PostgreSQL for tests: {choose_server()}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[TestServer]:
    """One server for the whole run."""
    try:
        with running_server() as server:
            yield server
    except PostgresFailed as error:
        pytest.skip(why_unavailable(error))


@pytest.fixture
def database_url(postgres_server: TestServer) -> Iterator[str]:
    """Address of a new, empty database, dropped after the test."""
    with new_database(postgres_server) as url:
        yield url
