from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.machine_monitor.tools import Toolbox


@pytest.fixture
def toolbox(tmp_path: Path) -> Toolbox:
    return Toolbox(tmp_path / "tools")
