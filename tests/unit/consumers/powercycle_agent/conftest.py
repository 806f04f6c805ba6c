"""A lab in memory, and a host of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.consumers.powercycle_agent.fake_lab import FakeLab, Host
from tests.unit.consumers.powercycle_agent.fake_power import controller


@pytest.fixture
def lab() -> FakeLab:
    return FakeLab()


@pytest.fixture
def host(lab: FakeLab, tmp_path: Path) -> Host:
    return Host(lab, tmp_path, controller())
