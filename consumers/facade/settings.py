"""Settings of the façade."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FacadeSettings:
    """Where the façade listens and what it bears."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0: any free one."""
    tokens: Path | None = None
    """File of API tokens. None: open to everybody, and so only on a loopback address."""
    open_user: str = "local"
    """Who acts when the façade is open."""
    max_event_bytes: int = 1 << 20
    """Largest event taken. A real Android event has 35 KB."""
    max_body_bytes: int = 1 << 18
    """Largest other body taken."""
    max_results_bytes: int = 4 << 20
    """Largest list of results of power commands taken."""
    request_timeout: timedelta = timedelta(seconds=60)
    """How long store and broker may take for one request; the old machine server's limit."""
    change_log_length: int = 16_384
    """How many changes back a fleet stream can resume. Bounded by `change_log_bytes` as well."""
    change_log_bytes: int = 64 << 20
    stream_buffer_bytes: int = 1 << 20
    """How far a client of a stream may lag behind before it is cut off, beyond what the kernel's buffers hold."""
    stream_patience: timedelta = timedelta(seconds=30)
    """How long a client may take to read a part of the initial state."""
    max_streams: int = 5_000
    """Open event streams of machines; more are refused with 503."""
    max_power_streams: int = 500
    """The same for agents' streams of power commands."""
    heartbeat: timedelta = timedelta(seconds=15)
    """A comment on every stream, so that proxies do not take it for dead."""
    progress_every: timedelta = timedelta(seconds=5)
    """How often the façade records that it is at work; the watchdog judges silence by it."""
    shutdown_patience: timedelta = timedelta(seconds=20)
    """How long requests under way may take after the stop."""
    machine_metrics: bool = True
    """Whether `/metrics` has gauges of every machine; too much for a fleet of many thousands."""
    stats_kept: timedelta = timedelta(days=2)
    """How far back the fleet's statistics can be asked for; longer, ask the topic."""
    stats_entries: int = 50_000
    """Windows of pools that are remembered at most, some 700 bytes each: two days of 17 windows a minute."""
