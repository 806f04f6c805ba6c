"""A writer falls asleep in the middle of its work, is given up, and wakes up when another has done it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from pipeline.settings import Connections
from tests.failures.lab import SECOND_WRITER, SERVICES, WRITER, until
from tests.failures.scene import under_load
from tests.failures.workload import Workload

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

_BLOCKED = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = %s AND wait_event_type = 'Lock'"
)


async def test_a_writer_that_wakes_up_after_it_was_replaced_does_no_harm(
    kafka_lab: Connections, tmp_path: Path
) -> None:
    async with under_load(kafka_lab, tmp_path, Workload(), *SERVICES, SECOND_WRITER) as scene:
        await scene.until_published(10_000)
        with held_rows(kafka_lab.database_url) as connection:
            await until(lambda: is_blocked(connection, WRITER), "the writer is in the middle of its work")
            scene.lab.pause(WRITER)
            end_session(connection, WRITER)
        scene.check_under_load()
        await scene.until_all_published()
        await scene.until_read()
        scene.lab.resume(WRITER)
        await scene.until_logged(WRITER, "lease_lost")
        await scene.check_outcome()


@contextmanager
def held_rows(database_url: str) -> Iterator[psycopg2.extensions.connection]:
    """Until the end of the context nobody can change machines."""
    with closing(psycopg2.connect(database_url)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE descriptions IN EXCLUSIVE MODE")
        yield connection


async def is_blocked(connection: psycopg2.extensions.connection, name: str) -> bool:
    """Whether the process waits for rows that somebody holds."""
    with connection.cursor() as cursor:
        cursor.execute(_BLOCKED, (name,))
        return cursor.fetchone() is not None


def end_session(connection: psycopg2.extensions.connection, name: str) -> None:
    """What the server does to a client that keeps rows locked and says no more, only sooner."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend(pid) FROM ({_BLOCKED}) AS blocked", (name,))
