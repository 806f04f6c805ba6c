"""When we can tell silence from our own deafness. Pure.

A machine that we have not heard of may be silent, or we may be deaf: the writer was down, is behind, or the façade that
machines post to was away. So silence is not measured by the clock on the wall but up to the moment to which *everything*
published has been applied, and from the moment since which we have been listening without a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pipeline.store.protocol import PROGRESS_GAP, Progress

FRESH: Final = PROGRESS_GAP
"""A service that has not recorded its progress for so long is away."""
RETIRED: Final = timedelta(hours=1)
"""A façade that has been away for so long is not coming back: machines are expected to have another way."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """The span in which silence is silence."""

    since: datetime
    """We have been listening without a gap since then."""
    until: datetime
    """Everything published before then has been applied."""


@dataclass(frozen=True, slots=True)
class Deaf:
    """We cannot judge."""

    why: str
    """`writer` or `facade`: who is away."""


def hearing(progress: Sequence[Progress], *, now: datetime) -> Hearing | Deaf:
    """What we can judge by, from what the services say of themselves."""
    writer = [entry for entry in progress if entry.service == "writer"]
    if not writer or any(now - entry.seen_at > FRESH for entry in writer):
        return Deaf("writer")
    since = max(entry.alive_since for entry in writer)
    until = min(entry.caught_up_to for entry in writer)
    facades = [entry for entry in progress if entry.service == "facade" and now - entry.seen_at <= RETIRED]
    if facades:
        fresh = [entry for entry in facades if now - entry.seen_at <= FRESH]
        if not fresh:
            return Deaf("facade")
        since = max(since, min(entry.alive_since for entry in fresh))
    return Hearing(since, until)
