"""What time it is for the brokers, learned from the stamps of what was published."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.broker.kafka_clock import BrokerClock
from pipeline.clock import ManualClock

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MS = timedelta(milliseconds=1)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("stamp", "ahead"),
    [
        (NOW + 3 * MS, timedelta(0)),  # while it was under way: nothing is known against our clock
        (NOW + 10 * MS, timedelta(0)),
        (NOW + MINUTE, MINUTE - 10 * MS),  # later than the answer came
        (NOW - MINUTE, MS - MINUTE),  # earlier than it was sent; stamps are cut off to milliseconds
    ],
)
def test_a_stamp_tells_how_wrong_our_clock_is_at_least(stamp: datetime, ahead: timedelta) -> None:
    clock = ManualClock(NOW + 10 * MS)
    brokers = BrokerClock(clock)
    assert brokers.now() == clock.now()
    brokers.stamped(stamp, sent=NOW)
    assert brokers.now() - clock.now() == ahead
    clock.advance(MINUTE)
    assert brokers.now() - clock.now() == ahead


def test_the_latest_stamp_counts() -> None:
    """Clocks are put right."""
    clock = ManualClock(NOW)
    brokers = BrokerClock(clock)
    brokers.stamped(NOW + MINUTE, sent=NOW)
    brokers.stamped(NOW, sent=NOW)
    assert brokers.now() == clock.now()
