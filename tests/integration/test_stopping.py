"""A process that is asked to stop ends soon, whatever the database does; and until then it has said what is wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.servers.child import free_ports

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
SOON_S = 20
"""Database drivers and we ourselves would wait for longer. It takes a part of a second where there is nothing else to do."""


@pytest.mark.parametrize(
    "module", ["consumers.description_writer", "consumers.outbox_relay", "consumers.watchdog"]
)
def test_a_service_without_its_database_says_so_at_once_and_stops_when_asked(module: str) -> None:
    (port,) = free_ports(1)
    url = f"postgresql://nobody@127.0.0.1:{port}/nothing"
    with subprocess.Popen(
        [sys.executable, "-m", module, "--database-url", url, "--log-format", "json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            next(line for line in process.stdout if '"started"' in line)
            began = time.monotonic()
            line = next(line for line in process.stdout if "_unavailable" in line or "waits" in line)
            told = time.monotonic()
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=SOON_S)
        finally:
            process.kill()

    assert "Connection refused" in line
    assert told - began < SOON_S
    assert process.returncode == 0
    assert "Traceback" not in rest
