"""The process ends in time, with the code that says why."""

from __future__ import annotations

import asyncio
import queue

import pytest

from consumers.fleet_stats.faust_end import LastResort
from pipeline.errors import BrokerUnavailable

SOON_S = 0.01


async def test_what_hangs_after_it_was_asked_to_stop_is_left_as_if_it_had_stopped() -> None:
    left, stop = queue.SimpleQueue[int](), asyncio.Event()
    async with LastResort(SOON_S, left.put).around(stop):
        stop.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        code = left.get(timeout=60)  # the event loop is blocked, as by Faust

    assert code == 0


async def test_what_failed_and_then_hangs_is_left_with_the_code_of_the_failure() -> None:
    left = queue.SimpleQueue[int]()
    with pytest.raises(BrokerUnavailable):
        async with LastResort(SOON_S, left.put).around(asyncio.Event()):
            raise BrokerUnavailable("kafka: gone")

    assert left.get(timeout=60) == 7


async def test_a_defect_is_not_taken_for_an_orderly_end() -> None:
    left = queue.SimpleQueue[int]()
    with pytest.raises(ZeroDivisionError):
        async with LastResort(SOON_S, left.put).around(asyncio.Event()):
            raise ZeroDivisionError

    assert left.get(timeout=60) == 1


async def test_nobody_is_hurried_while_it_works() -> None:
    left = queue.SimpleQueue[int]()
    async with LastResort(SOON_S, left.put).around(asyncio.Event()):
        await asyncio.sleep(5 * SOON_S)
        assert left.empty()
