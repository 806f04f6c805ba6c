"""Which database a command uses that may find it by the folder of a lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.producers.labkeeper.command_line import labkeeper


@pytest.mark.parametrize("words", [("dead", "list"), ("db", "status"), ("db", "migrate")])
def test_where_no_lab_runs_that_is_said_in_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    refused = labkeeper(*words, "--data", str(tmp_path))

    assert refused.code == 7
    assert refused.err == (
        f"labkeeper: no lab runs in {tmp_path} (is `labkeeper up --data {tmp_path}` running?): "
        "name its folder with --data, or its database with --database-url\n"
    )


def test_a_folder_that_is_typed_beats_an_address_in_the_environment(tmp_path: Path) -> None:
    elsewhere = "postgresql://127.0.0.1:1/nowhere"
    refused = labkeeper("dead", "list", "--data", str(tmp_path), LABKEEPER_DATABASE_URL=elsewhere)

    assert "no lab runs" in refused.err


def test_a_folder_and_an_address_together_are_refused(tmp_path: Path) -> None:
    refused = labkeeper("db", "status", "--data", str(tmp_path), "--database-url", "postgresql:///x")

    assert refused.code == 2
    assert "not both" in refused.err
