"""Fixtures of the façade's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from consumers.facade.tokens import Role, add_token
from tests.unit.consumers.facade.lab import Lab, running


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    """A façade that lets everybody in."""
    async with running() as running_lab:
        yield running_lab


@pytest.fixture
def tokens(tmp_path: Path) -> tuple[Path, dict[str, dict[str, str]]]:
    """A token file, and for each role the headers of its bearer."""
    path = tmp_path / "tokens"
    names = {
        Role.VIEWER: "vera@example.org",
        Role.OPERATOR: "olga@example.org",
        Role.ADMIN: "ada@example.org",
        Role.MACHINE: "rack4-07",
        Role.AGENT: "rack4",
    }
    headers = {
        role.value: {"Authorization": f"Bearer {add_token(path, role, name)}"} for role, name in names.items()
    }
    return path, headers
