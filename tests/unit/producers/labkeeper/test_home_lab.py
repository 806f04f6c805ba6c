from __future__ import annotations

from pathlib import Path

from tests.unit.producers.labkeeper.command_line import labkeeper


def test_where_no_lab_runs_there_are_no_dead_letters_to_look_for(tmp_path: Path) -> None:
    refused = labkeeper("dead", "list", "--data", str(tmp_path))

    assert refused.code == 7
    assert refused.err == (
        f"labkeeper: no lab runs in {tmp_path}: name its folder with --data, or its database with --database-url\n"
    )
