"""Retrying for ever, but not past the end; parts of a service that live and die together; and whether the loop turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest

from pipeline.errors import BrokerUnavailable, Rejected
from pipeline.retry import Backoff
from pipeline.service import HANGS_AFTER_S, Abandoned, Pulse, persist, together, wait_for, with_health


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


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ask(pulse: Pulse, path: str = "/healthz") -> tuple[str, bytes]:
    """Status and body, as another thread would get them."""
    statuses: list[str] = []

    def start(status: str, _headers: list[tuple[str, str]], _error: object = None) -> Callable[[bytes], Any]:
        statuses.append(status)
        return lambda _: None

    def rest(_environ: object, start_response: Callable[..., object]) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"metrics"]

    body = b"".join(with_health(rest, pulse)({"PATH_INFO": path}, start))
    return statuses[0], body


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


async def test_a_loop_that_is_held_up_is_unhealthy_until_it_turns_again() -> None:
    watch = Watch()
    pulse = Pulse(watch)
    beating = asyncio.create_task(pulse.beat(period_s=0.001))

    watch.now += 3600
    await until(lambda: pulse.silence() == 0)
    assert ask(pulse) == ("200 OK", b"ok\n")

    watch.now += HANGS_AFTER_S + 1  # from here to the next await, this very test holds the loop up
    assert ask(pulse) == ("503 Service Unavailable", b"the event loop has not turned for 31 s\n")
    assert ask(pulse, "/metrics") == ("200 OK", b"metrics")

    await until(lambda: pulse.silence() == 0)
    assert ask(pulse) == ("200 OK", b"ok\n")
    beating.cancel()
    with suppress(asyncio.CancelledError):
        await beating


def test_a_loop_that_never_began_to_turn_is_unhealthy_too() -> None:
    watch = Watch()
    pulse = Pulse(watch)
    assert ask(pulse)[0] == "200 OK"

    watch.now += HANGS_AFTER_S + 1
    assert ask(pulse)[0] == "503 Service Unavailable"
