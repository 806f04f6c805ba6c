"""Fixtures of the tests that bring one real system along."""

from __future__ import annotations

import logging

import pytest
import structlog


@pytest.fixture
def quiet_server() -> None:
    """The server runs in this process: its lines about requests must not mix with what the commands print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
