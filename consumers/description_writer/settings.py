"""Settings of the description writer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pipeline.broker.deadletter import RejectLimit

GROUP: Final = "description-writer"
"""The consumer group; all writers of a lab are members of it."""

MAX_EVENT_BYTES: Final = 1 << 20
"""As much as the façade takes. A real Android event has 35 KB."""


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """How the writer batches and when it gives up."""

    max_event_bytes: int = MAX_EVENT_BYTES
    """Larger events are parked: whoever can publish could otherwise make a row that burdens every reader."""
    max_records: int = 2000
    """Events in a transaction at most. After an outage a large batch holds many events of each machine, which cost one write."""
    max_wait: timedelta = timedelta(milliseconds=5)
    """How long a batch that is not full waits for more. Part of every quiet event's latency."""
    progress_every: timedelta = timedelta(seconds=2)
    """How often progress is recorded; the watchdog takes a gap of 15 s as "the writer was away"."""
    reject_limit: RejectLimit = RejectLimit()
