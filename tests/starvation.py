"""How long this thread was ready to run and got no processor: so that a busy machine fails no test of a time limit."""

from __future__ import annotations

from pathlib import Path

_SCHEDULER = Path("/proc/thread-self/schedstat")
"""Nanoseconds on a processor, nanoseconds of waiting for one, and turns; of Linux."""


def starved_s() -> float:
    """Seconds since the thread began; 0 where the system does not tell."""
    try:
        _, waited_ns, _ = _SCHEDULER.read_text().split()
    except (OSError, ValueError):
        return 0.0
    return int(waited_ns) / 1e9
