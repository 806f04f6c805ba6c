"""Log lines: where they go, and what happens when they cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from pipeline import logs
logs.configure("x")
for _ in range(10_000):
    logs.get_logger().warning("something", text="x" * 100)
print("worked on")
"""
FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
def test_a_full_disk_costs_log_lines_and_nothing_else() -> None:
    with FULL.open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=full, timeout=60, check=False
        )
    assert done.stdout == b"worked on\n"
