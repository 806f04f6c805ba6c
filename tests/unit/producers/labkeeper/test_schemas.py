from __future__ import annotations

from pathlib import Path

from tests.unit.producers.labkeeper.command_line import labkeeper


def test_documents_that_cannot_be_written_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    refused = labkeeper("schemas", "write", str(tmp_path / "file" / "folder"))

    assert refused.code == 1
    assert refused.err == f"labkeeper: cannot write into {tmp_path}/file/folder: Not a directory\n"
