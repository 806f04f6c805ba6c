"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.producers.labkeeper.facade_double import FacadeDouble, running


@pytest.fixture
async def facade() -> AsyncIterator[FacadeDouble]:
    """A façade without machines."""
    async with running(FacadeDouble()) as double:
        yield double
