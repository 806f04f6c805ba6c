from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import Misconfigured
from producers.machine_monitor.state import StateFolder


def test_a_second_monitor_is_kept_out(tmp_path: Path) -> None:
    with (
        StateFolder(tmp_path / "state").hold(),
        pytest.raises(Misconfigured, match="another monitor"),
        StateFolder(tmp_path / "state").hold(),
    ):
        pass
    with StateFolder(tmp_path / "state").hold():
        pass


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(Misconfigured, match="--state-dir"),
        StateFolder(tmp_path / "file" / "state").hold(),
    ):
        pass
