"""A lease is judged by our own clock, and always to our disadvantage: two processes must never both believe in it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from consumers.powercycle_agent.lease import Lease
from pipeline.errors import StoreUnavailable
from tests.unit.consumers.powercycle_agent.fake_lab import FakeLab, until

DEADLINE_S = 60


class Office(FakeLab):
    """Gives the answers that the test has prepared, and then none any more."""

    def __init__(self, answers: Iterable[bool], *, takes_s: float = 0) -> None:
        super().__init__()
        self.now = 1000.0
        self.asked = 0
        self.released: list[str] = []
        self._answers = iter(answers)
        self._takes_s = takes_s

    def clock(self) -> float:
        return self.now

    async def acquire(self, name: str, owner: str, *, seconds: float) -> bool:
        self.asked += 1
        self.now += self._takes_s
        answer = next(self._answers, None)
        if answer is None:
            raise StoreUnavailable("away")
        return answer

    async def release(self, name: str, owner: str) -> None:
        self.released.append(f"{owner} {name}")


@asynccontextmanager
async def kept(office: Office, seconds: float = 30) -> AsyncIterator[Lease]:
    lease = Lease(office, "rack4", "me", seconds, clock=office.clock)
    over = asyncio.Event()
    keeping = asyncio.create_task(lease.keep(over))
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield lease
    finally:
        over.set()
        await keeping


async def test_it_counts_from_when_it_was_asked_for() -> None:
    """The lab's own count began before its answer was here."""
    office = Office([True], takes_s=4)
    async with kept(office) as lease:
        assert lease.left() == -math.inf
        assert await lease.is_gained_within(DEADLINE_S)
        assert lease.left() == 26


async def test_an_answer_that_took_too_long_is_worth_nothing() -> None:
    async with kept(Office([True, False], takes_s=31), seconds=30) as lease:
        await lease.is_gained_within(0.05)
        assert lease.left() <= 0


async def test_it_ends_by_itself_when_nobody_renews_it() -> None:
    office = Office([True])
    async with kept(office) as lease:
        assert await lease.is_gained_within(DEADLINE_S)
        office.now += 29.5
        assert lease.left() == 0.5
        office.now += 0.5
        await lease.ended()
        assert lease.left() == 0
        assert not await lease.is_gained_within(0.01)
    assert office.released == []


async def test_silence_counts_from_question_to_question() -> None:
    office = Office([True], takes_s=0.1)
    async with kept(office, seconds=0.3) as lease:
        assert await lease.is_gained_within(DEADLINE_S)
        assert lease.unanswered_for() == 0
        await until(lambda: lease.unanswered_for() > 0.3)


async def test_silence_while_we_slept_is_not_the_labs() -> None:
    """Somebody else may have the lease since."""
    office = Office([True])
    async with kept(office, seconds=0.3) as lease:
        assert await lease.is_gained_within(DEADLINE_S)
        office.now += 3600
        asked = office.asked
        await until(lambda: office.asked > asked + 1)
        assert lease.unanswered_for() == 0


async def test_it_ends_at_once_when_somebody_else_has_it() -> None:
    office = Office([True, False])
    async with kept(office, seconds=0.3) as lease:
        assert await lease.is_gained_within(DEADLINE_S)
        await lease.ended()
        assert lease.left() == -math.inf


async def test_it_is_given_up_in_the_end() -> None:
    office = Office([True])
    async with kept(office) as lease:
        assert await lease.is_gained_within(DEADLINE_S)
    assert office.released == ["me rack4"]
    assert lease.left() == -math.inf


async def test_that_somebody_else_works_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    async with kept(Office([False, False, False, True]), seconds=0.3) as lease:
        assert await lease.is_gained_within(DEADLINE_S)
    told = "".join(capsys.readouterr())
    assert told.count("standing_by") == 1
    assert told.count("lease_gained") == 1
