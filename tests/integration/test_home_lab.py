"""Finding the database of a lab on this computer by the lab's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.servers.postgres import PostgresServer
from pipeline.store.migrations import migrate
from tests.unit.producers.labkeeper.command_line import labkeeper

pytestmark = pytest.mark.integration


def test_the_dead_letters_of_a_lab_are_found_by_its_folder(tmp_path: Path) -> None:
    server = PostgresServer.start(tmp_path / "postgres")
    try:
        migrate(server.dsn)
        found = labkeeper("dead", "list", LABKEEPER_DATA=str(tmp_path))
    finally:
        server.stop()

    assert (found.code, found.out) == (0, "")
    assert "no lab runs" in labkeeper("dead", "list", LABKEEPER_DATA=str(tmp_path)).err
