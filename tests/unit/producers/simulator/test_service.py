"""The simulator's pace, and what it does when nobody takes its events."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest

from pipeline.clock import SystemClock
from pipeline.errors import BrokerUnavailable
from producers.simulator.catalogue import furnish
from producers.simulator.load import EventSize
from producers.simulator.sender import Load, send
from producers.simulator.service import ROLL_CALL_S, Simulator, turns_due
from producers.simulator.settings import SimulatorSettings
from schemas.event import Event


class Collector:
    """A destination that keeps what it gets, and tells when it has enough."""

    def __init__(self, enough: int, *, failures: int = 0) -> None:
        self.events: list[tuple[str, bytes]] = []
        self.stop = asyncio.Event()
        self._enough = enough
        self._failures = failures

    async def send(self, events: Sequence[tuple[str, bytes]]) -> None:
        if self._failures:
            self._failures -= 1
            raise BrokerUnavailable("not now")
        self.events += events
        if len(self.events) >= self._enough:
            self.stop.set()


async def simulate(collector: Collector, *, machines: int, period_s: float) -> None:
    settings = SimulatorSettings(machines, timedelta(seconds=period_s))
    simulator = Simulator(furnish(machines, seed=1), collector, SystemClock(), settings)
    await asyncio.wait_for(simulator.run(collector.stop), 60)


def test_in_the_beginning_everybody_is_heard_within_seconds() -> None:
    assert turns_due(0.0, 200, period_s=30) == 0
    assert turns_due(ROLL_CALL_S / 2, 200, period_s=30) == 100
    assert turns_due(ROLL_CALL_S, 200, period_s=30) == 200


def test_from_then_on_the_load_is_even() -> None:
    per_second = [
        turns_due(ROLL_CALL_S + second + 1, 300, period_s=30)
        - turns_due(ROLL_CALL_S + second, 300, period_s=30)
        for second in range(120)
    ]

    assert set(per_second) == {10}


async def test_machines_report_in_turn_and_count_their_reports() -> None:
    collector = Collector(30)
    await simulate(collector, machines=5, period_s=0.1)

    seen: Counter[str] = Counter()
    for machine_id, value in collector.events:
        event = Event.model_validate_json(value)
        assert event.host.name == machine_id
        assert event.sequence == seen[machine_id]
        seen[machine_id] += 1
    assert len(seen) == 5


async def test_what_could_not_be_sent_is_sent_again() -> None:
    collector = Collector(6, failures=3)
    await simulate(collector, machines=3, period_s=0.1)

    first = {
        machine_id: Event.model_validate_json(value).sequence
        for machine_id, value in reversed(collector.events)
    }
    assert set(first.values()) == {0}


async def test_it_stops_while_nobody_takes_its_events() -> None:
    collector = Collector(1, failures=1_000_000)
    simulator = Simulator(
        furnish(3, seed=1), collector, SystemClock(), SimulatorSettings(3, timedelta(seconds=0.1))
    )
    running = asyncio.create_task(simulator.run(collector.stop))
    collector.stop.set()

    await asyncio.wait_for(running, 30)


@pytest.mark.parametrize("size", list(EventSize))
async def test_the_load_generator_sends_as_many_as_asked_for(size: EventSize) -> None:
    collector = Collector(10**9)
    sent = await send(Load(50, size, count=2050), collector, SystemClock(), collector.stop)

    assert sent == len(collector.events) == 2050


async def test_the_load_generator_keeps_to_its_rate() -> None:
    collector = Collector(10**9)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await send(Load(50, EventSize.SMALL, rate=1000, count=200), collector, SystemClock(), collector.stop)

    assert loop.time() - began >= 0.19
