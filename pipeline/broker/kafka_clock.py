"""What time it is for the brokers that stamp the messages."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from pipeline.clock import Clock

_NO_SKEW: Final = timedelta(0)


class BrokerClock:
    """Our clock, put right by what the latest published messages were stamped.

    Kafka tells nobody the time, but an acknowledgement carries the broker's stamp: which must lie, by our clock, between
    sending and its arrival. As long as it does, our clock is right; before anything was published, it is trusted.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._skew = _NO_SKEW

    def ours(self) -> datetime:
        """By our clock."""
        return self._clock.now()

    def now(self) -> datetime:
        """By the brokers' clock, as far as we know."""
        return self._clock.now() + self._skew

    def stamped(self, at: datetime, *, sent: datetime) -> None:
        """A message that was sent at `sent` (by our clock), and is known since this moment to be safe, was stamped `at`."""
        least, most = at - self._clock.now(), at - sent
        self._skew = min(
            max(_NO_SKEW, least), most + timedelta(milliseconds=1)
        )  # stamps are cut off to milliseconds
