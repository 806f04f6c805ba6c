"""The only place that reads the clock, so that tests can set it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time of day. Everything that compares or stores a time takes one, or takes `now`."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        ...


class SystemClock:
    """The operating system's clock."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251  # here, and nowhere else


class ManualClock:
    """A clock for tests: stands still until told to move."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        """The time last set."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Move forward (or, with a negative `by`, backward, as real clocks sometimes do)."""
        self._now += by


def is_due(last: datetime | None, every: timedelta, *, now: datetime) -> bool:
    """Whether it is time again for what was done at `last`; at once, when the clock was put back since."""
    return last is None or not timedelta(0) <= now - last < every
