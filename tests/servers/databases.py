"""A database of its own for each test."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg2


@contextlib.contextmanager
def temporary_database(server_url: str, *, drop_option: str) -> Iterator[str]:
    """Address of an empty database, which is dropped afterwards with everything and everyone in it."""
    name = f"test_{uuid.uuid4().hex}"
    _administer(server_url, f'CREATE DATABASE "{name}"')
    try:
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    finally:
        _administer(server_url, f'DROP DATABASE "{name}" {drop_option}')


def _administer(server_url: str, statement: str) -> None:
    with contextlib.closing(psycopg2.connect(server_url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
