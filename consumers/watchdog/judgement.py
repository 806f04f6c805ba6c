"""When silence means something. Pure.

A machine that we have not heard of may be silent, or we may be deaf: the writer was down, is behind, or the façade that
machines post to was away. So silence is not measured by the clock on the wall but up to the moment to which *everything*
published has been applied, and from the moment since which we have been listening without a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from consumers.watchdog.settings import WatchdogSettings
from pipeline.processor.swarming_bot import DEVICE_KIND as SWARMING
from pipeline.store.protocol import PROGRESS_GAP, Progress
from schemas.description import Description

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


def is_silent(machine: Description, heard: Hearing, settings: WatchdogSettings) -> bool:
    """Whether the machine has been silent for longer than its pool's patience, as far as we could hear.

    Of machines that only a Swarming server tells of, that server says itself which are dead.
    """
    if machine.device_kind == SWARMING:
        return False
    listening_since = max(machine.last_updated, heard.since)
    return heard.until - listening_since > settings.patience(machine.dimension("pool"))
