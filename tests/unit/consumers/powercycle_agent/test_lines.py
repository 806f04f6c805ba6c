"""Which job goes to which controller, and what it costs to find out."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from consumers.powercycle_agent.controllers import Crew
from consumers.powercycle_agent.executor import Executor
from consumers.powercycle_agent.inventory import Inventory
from consumers.powercycle_agent.jobs import Order
from consumers.powercycle_agent.journal import Journal
from consumers.powercycle_agent.lines import Lines
from consumers.powercycle_agent.locks import Locks
from consumers.powercycle_agent.probing import States
from consumers.powercycle_agent.settings import AgentSettings
from pipeline.clock import ManualClock
from schemas.power import PowerCommand, PowerStatus, PowerStep
from tests.unit.consumers.powercycle_agent.fake_power import START, FakeDriver, Switch, controller, order


class Work:
    """Counts what the interpreter does, whatever the machine is busy with besides."""

    def __init__(self) -> None:
        self.steps = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        def step(frame: FrameType, event: str, _argument: Any) -> Callable[..., Any]:
            frame.f_trace_opcodes = True
            self.steps += event == "opcode"
            return step

        before = sys.gettrace()
        sys.settrace(step)
        try:
            yield
        finally:
            sys.settrace(before)


@pytest.fixture
def told() -> list[PowerStep]:
    return []


@pytest.fixture
async def lines(tmp_path: Path, told: list[PowerStep]) -> AsyncIterator[Lines]:
    """One controller, which somebody else drives: whatever is given to it waits."""
    clock = ManualClock(START)
    settings = AgentSettings("rack4", tmp_path)
    executor = Executor(
        Journal(settings.journal), clock, lambda step, _entry: told.append(step), agent="rack4"
    )
    locks = Locks(settings.locks)
    crew = Crew(executor, locks, States(clock, "rack4", lambda _report: None), clock, settings)
    lines = Lines(Inventory((controller(),)), lambda _controller: FakeDriver(Switch()), crew)
    async with locks.hold("fake/rack4"):
        running = asyncio.create_task(lines.run())
        await lines.started.wait()
        yield lines
        running.cancel()
        await asyncio.wait({running})


def take(lines: Lines, commands: Sequence[PowerCommand]) -> None:
    for command in commands:
        assert not lines.is_busy_with(command)
        lines.add(Order(command))
        assert lines.is_busy_with(command)


def withdraw(lines: Lines, commands: Sequence[PowerCommand]) -> None:
    for command in reversed(commands):
        lines.withdraw(command.machine_id, command.id)
        assert not lines.is_busy_with(command)


@pytest.mark.parametrize("done", [take, withdraw])
async def test_a_command_costs_the_same_however_many_wait(
    lines: Lines, done: Callable[[Lines, Sequence[PowerCommand]], None]
) -> None:
    def cost(number: int) -> int:
        commands = [order() for _ in range(number)]
        work = Work()
        if done is withdraw:
            take(lines, commands)
        with work.counted():
            done(lines, commands)
        if done is take:
            withdraw(lines, commands)
        return work.steps

    cost(1)
    once, four_times = cost(100), cost(400)
    assert four_times < 4.5 * once


async def test_a_command_that_is_given_twice_waits_once(lines: Lines, told: list[PowerStep]) -> None:
    commands = [order(), order("m2"), order()]
    take(lines, commands)
    lines.add(Order(commands[1]))
    lines.withdraw("m2", commands[1].id)

    assert [(step.command_id, step.status) for step in told] == [(commands[1].id, PowerStatus.CANCELLED)]
    assert [lines.is_busy_with(each) for each in commands] == [True, False, True]
