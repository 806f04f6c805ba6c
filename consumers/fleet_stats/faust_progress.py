"""Whether Faust gets on with reading, partition by partition.

Faust commits a partition only as far as it has an unbroken row of acknowledged offsets. It fails to see some holes that the
compaction of the topic leaves, and it drops at times what it had queued while its group rearranged itself; either way it
reads on and never commits again, without a word.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipeline.broker.protocol import Lag

AT_MOST_S: Final = 20.0
"""What one look counts at most: nobody could get on while we could not even look."""


@dataclass(slots=True)
class _Still:
    lag: Lag
    since_s: float
    """How long it has been seen to stand still, in seconds."""
    read_again_s: float
    """The same, since it was last read again."""


class Progress:
    """How long each partition's oldest unread change has been the same one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked = clock()
        self._still: dict[int, _Still] = {}

    def age(self) -> float:
        """Seconds since the last look."""
        return self._clock() - self._looked

    def look(self, lags: Iterable[Lag]) -> None:
        """Take these for how it is now."""
        passed = min(self.age(), AT_MOST_S)
        self._looked = self._clock()
        self._still = {
            lag.partition: self._seen(lag, lag.oldest_unread_at, passed)
            for lag in lags
            if lag.oldest_unread_at is not None
        }

    def _seen(self, lag: Lag, oldest: datetime | None, passed: float) -> _Still:
        before = self._still.get(lag.partition)
        if before is None or before.lag.oldest_unread_at != oldest:
            return _Still(lag, 0.0, 0.0)
        return _Still(lag, before.since_s + passed, before.read_again_s + passed)

    def to_read_again(self, after_s: float) -> list[Lag]:
        """The partitions that stand still for longer than that, and were not named here for as long."""
        found = [each for each in self._still.values() if each.read_again_s > after_s]
        for each in found:
            each.read_again_s = 0.0
        return [each.lag for each in found]

    def worst(self) -> tuple[Lag, float] | None:
        """The partition that stands still the longest, and for how many seconds it has. None when nothing is unread."""
        if not self._still:
            return None
        worst = max(self._still.values(), key=lambda each: each.since_s)
        return worst.lag, worst.since_s
