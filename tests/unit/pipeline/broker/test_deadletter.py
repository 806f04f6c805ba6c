"""When refused messages are a flood: by their share of what was read lately, however large the batches are."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipeline.broker.deadletter import DeadLetters, RejectLimit
from pipeline.broker.memory import MemoryBroker
from pipeline.clock import ManualClock
from pipeline.errors import TooManyRejects

CLOCK = ManualClock(datetime(2026, 1, 2, tzinfo=UTC))
LIMIT = RejectLimit(rejects=1000, among=2000)


def dead_letters() -> DeadLetters:
    return DeadLetters(MemoryBroker(clock=CLOCK), CLOCK, LIMIT)


def read(letters: DeadLetters, batch: int, *, bad: int) -> None:
    for _ in range(20_000 // batch):
        letters.count(read=batch, rejected=bad)


@pytest.mark.parametrize("batch", [10, 500, 1500, 2000])
def test_a_third_of_bad_messages_is_no_flood(batch: int) -> None:
    read(dead_letters(), batch, bad=batch // 3)


@pytest.mark.parametrize("batch", [10, 500, 1500, 2000])
def test_mostly_bad_messages_are_a_flood(batch: int) -> None:
    letters = dead_letters()
    letters.count(read=2000, rejected=0)
    with pytest.raises(TooManyRejects, match="labkeeper dead list"):
        read(letters, batch, bad=batch * 9 // 10)


def test_a_few_bad_messages_after_a_start_are_no_flood() -> None:
    dead_letters().count(read=999, rejected=999)
