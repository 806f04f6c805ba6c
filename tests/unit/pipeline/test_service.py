"""Retrying for ever, but not past the end; and parts of a service that live and die together."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.errors import BrokerUnavailable, Rejected
from pipeline.retry import Backoff
from pipeline.service import Abandoned, persist, together, wait_for


async def test_what_fails_for_the_surroundings_sake_is_tried_until_it_works() -> None:
    failures = [BrokerUnavailable("away"), BrokerUnavailable("still away")]

    async def attempt() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert await persist(attempt, "trouble", asyncio.Event()) == "done"


async def test_what_fails_for_its_own_sake_is_not_tried_again() -> None:
    attempts = []

    async def attempt() -> None:
        attempts.append(1)
        raise Rejected("never")

    with pytest.raises(Rejected):
        await persist(attempt, "trouble", asyncio.Event())
    assert len(attempts) == 1


async def test_retrying_ends_with_the_process() -> None:
    stop = asyncio.Event()

    async def attempt() -> None:
        stop.set()
        raise BrokerUnavailable("away")

    with pytest.raises(Abandoned):
        await asyncio.wait_for(persist(attempt, "trouble", stop), 5)


async def test_when_one_part_fails_the_others_are_cancelled_and_its_error_is_raised_itself() -> None:
    cancelled = asyncio.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def fails() -> None:
        raise Rejected("on purpose")

    with pytest.raises(Rejected, match="on purpose"):
        await together(waits(), fails())
    assert cancelled.is_set()


async def test_a_wait_ends_early_when_the_process_is_asked_to_stop() -> None:
    stop = asyncio.Event()
    assert not await wait_for(stop, 0.001)

    asyncio.get_running_loop().call_soon(stop.set)
    assert await asyncio.wait_for(wait_for(stop, 3600), 5)


def test_pauses_grow_up_to_a_cap_and_start_anew_after_a_success() -> None:
    backoff = Backoff(first_s=1, cap_s=8)
    pauses = []
    for _ in range(200):
        backoff.reset()
        pauses.append([backoff.next() for _ in range(6)])

    for number, ceiling in enumerate([1, 2, 4, 8, 8, 8]):
        seen = [row[number] for row in pauses]
        assert 0 <= min(seen) < ceiling / 4
        assert ceiling / 2 < max(seen) <= ceiling
