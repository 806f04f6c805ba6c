"""What every test here asks: the parser, and what the store says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from infra.servers.errors import ServerUnavailable
from tests.cockroachdb.program import Answer, parsed, parser
from tests.cockroachdb.tour import Tour, tour
from tests.servers.kinds import TestServer
from tests.servers.postgres import new_database

Parse = Callable[[Sequence[str]], list[Answer]]


@pytest.fixture(scope="session")
def program() -> Path:
    """The parser; without Go the tests that want it are skipped."""
    try:
        return parser()
    except ServerUnavailable as error:
        pytest.skip(f"needs CockroachDB's parser: {error}")


@pytest.fixture(scope="session")
def parse(program: Path) -> Parse:
    """Asks the parser."""
    return partial(parsed, program)


@pytest.fixture(scope="session")
def store_tour(postgres_server: TestServer) -> Tour:
    """Everything that the store says to a database."""
    with new_database(postgres_server) as url:
        return asyncio.run(tour(url))


@pytest.fixture(scope="session")
def answers(store_tour: Tour, parse: Parse) -> list[Answer]:
    """What the parser makes of all that."""
    return parse(store_tour.statements)
