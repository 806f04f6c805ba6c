"""At its start a process finds out whether the broker lets it in."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from pipeline.broker.greeting import greet
from pipeline.broker.memory import MemoryBroker
from pipeline.errors import BrokerUnavailable, LabkeeperError, Misconfigured


class Answering(MemoryBroker):
    """Answers the question whether it is there with an error, or never."""

    def __init__(self, error: LabkeeperError | None = None) -> None:
        super().__init__()
        self.error = error
        self.asked = asyncio.Event()

    async def check(self) -> None:
        self.asked.set()
        if self.error is None:
            await asyncio.Event().wait()
        else:
            raise self.error


async def test_a_broker_that_is_there_is_not_worth_a_word() -> None:
    with capture_logs() as lines:
        await greet(MemoryBroker(), asyncio.Event())

    assert lines == []


async def test_a_broker_that_turns_us_away_ends_the_process() -> None:
    with pytest.raises(Misconfigured, match="check the password"):
        await greet(Answering(Misconfigured("check the password")), asyncio.Event())


async def test_a_broker_that_is_away_is_told_of_and_waited_for() -> None:
    with capture_logs() as lines:
        await greet(Answering(BrokerUnavailable("nobody is there")), asyncio.Event())

    assert [(line["event"], line["reason"]) for line in lines] == [("broker_unavailable", "nobody is there")]


async def test_a_broker_that_says_nothing_does_not_keep_a_process_from_stopping() -> None:
    broker = Answering()
    stop = asyncio.Event()
    greeting = asyncio.create_task(greet(broker, stop))
    async with asyncio.timeout(60):
        await broker.asked.wait()
        stop.set()
        await greeting
