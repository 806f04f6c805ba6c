"""CockroachDB for tests. It comes as a container or not at all: its makers publish no package that could be installed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final

from tests.servers.databases import temporary_database
from tests.servers.docker import Container
from tests.servers.kinds import ServerKind, TestServer


def new_database(server: TestServer) -> AbstractContextManager[str]:
    """Address of an empty database, which is dropped afterwards."""
    return temporary_database(server.address, drop_option="CASCADE")


COCKROACHDB: Final = ServerKind(
    name="CockroachDB",
    variable="LABKEEPER_TEST_COCKROACHDB_URL",
    container=Container(
        image="cockroachdb/cockroach:v25.4.0",
        port=26257,
        ready="CockroachDB node starting",
        command="start-single-node --insecure --store=type=mem,size=1GiB",
    ),
    own=None,
    address="postgresql://root@{address}/defaultdb?sslmode=disable",
)
