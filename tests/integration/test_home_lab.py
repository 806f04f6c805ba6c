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
        schema = labkeeper("db", "status", "--data", str(tmp_path), "-o", "name")
    finally:
        server.stop()

    assert (found.code, found.out) == (0, "")
    assert schema.code == 0
    assert schema.lines
    assert "no lab runs" in labkeeper("dead", "list", LABKEEPER_DATA=str(tmp_path)).err


def test_a_lab_in_a_usual_folder_is_found_unasked_and_of_two_one_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = tmp_path / "usual"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("producers.labkeeper.home_lab.default_folder", lambda: usual)
    with PostgresServer.start(tmp_path / ".labkeeper" / "postgres") as server:
        migrate(server.dsn)
        assert labkeeper("dead", "list").code == 0
        assert labkeeper("db", "status").code == 0

        with PostgresServer.start(usual / "postgres"):
            unclear = labkeeper("db", "migrate")

    assert unclear.code == 2
    assert f"labs run in .labkeeper and in {usual}" in unclear.err
