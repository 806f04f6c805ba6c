"""The agent is killed at every step of a cycle: in the end the port is on, and the command has ended once, and truthfully."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from consumers.powercycle_agent.journal import Journal
from pipeline.clock import SystemClock
from schemas.power import PowerStatus
from tests.failures.power.agent import AgentProcess, Plan
from tests.failures.power.lab import PowerLab, until
from tests.failures.power.switch import OFF, ON, LineSwitch

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

AT_ONCE: Final = 4

WIRE: Final = [
    f"{verb} {when}" for verb in ("off", "on", "status") for when in ("received", "acted", "answered")
]
"""What the switch sees of a cycle."""
DISK: Final = range(2, 17)
"""The agent's changes of files: the lock's owner; file written, synced, named, directory synced; each step and its sync; the
end's report and the file cut short. The first is the name that it gives itself."""
WRITES: Final = (2, 3, 7, 9, 11, 13)


class Point:
    """Where the first agent dies."""

    def __init__(self, name: str, *, wire: str = "", disk: int = 0, half_written: bool = False) -> None:
        self.name = name
        self.wire = wire
        self.disk = disk
        self.half_written = half_written


POINTS: Final = [
    *(Point(f"wire-{at.replace(' ', '-')}", wire=at) for at in WIRE),
    *(Point(f"disk-{at}", disk=at) for at in DISK),
    *(Point(f"half-{at}", disk=at, half_written=True) for at in WRITES),
]


async def test_wherever_the_agent_is_killed_the_port_is_on_and_the_command_ends_once(tmp_path: Path) -> None:
    lab, switch = PowerLab(), LineSwitch()
    victims: dict[tuple[str, str], None] = {(point.wire, point.name): None for point in POINTS if point.wire}

    def watch(at: str, port: str, pid: int) -> None:
        if (at, port) in victims:
            del victims[at, port]
            os.kill(pid, signal.SIGKILL)

    switch.watch = watch
    async with lab.running(), switch.running():
        await lab.add(*(point.name for point in POINTS))
        slots = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for point in POINTS:
                group.create_task(_in_turn(slots, point, lab, switch, tmp_path / point.name))
    assert not victims
    assert not switch.overlaps


async def _in_turn(
    slots: asyncio.Semaphore, point: Point, lab: PowerLab, switch: LineSwitch, state_dir: Path
) -> None:
    async with slots:
        await _die_and_rise(point, lab, switch, state_dir)


async def _die_and_rise(point: Point, lab: PowerLab, switch: LineSwitch, state_dir: Path) -> None:
    name = point.name
    await asyncio.to_thread(state_dir.mkdir)
    journal = Journal(state_dir / "journal")
    plan = Plan(
        lab.url,
        f"agent-{name}",
        state_dir,
        switch.port,
        ((name, name, name),),
        dies_at=point.disk,
        half_written=point.half_written,
    )
    command = await lab.order(name)
    with _putting_away([AgentProcess(plan)]) as (first,):
        assert await first.ended() == -signal.SIGKILL, f"{name}: not killed"
    with _putting_away([AgentProcess(replace(plan, dies_at=0))]) as (second,):
        await lab.reached(command, PowerStatus.DONE)
        await until(lambda: journal.ended(command) is not None, f"{name}: the journal is done with it")
        await second.stop()

    assert switch.states[name] == ON, name
    assert switch.switched(name)[-1] == ON
    assert OFF in switch.switched(name)
    record = await lab.record(command)
    assert [moment.status for moment in record.steps if not moment.status.is_pending] == [PowerStatus.DONE]
    assert {step.status for step in await lab.told(command) if not step.status.is_pending} == {
        PowerStatus.DONE
    }
    assert journal.adopt(now=SystemClock().now()) == [], name


class _putting_away:  # noqa: N801  # reads as what it does
    """Processes that are gone in the end, also when the test has failed."""

    def __init__(self, agents: Iterable[AgentProcess]) -> None:
        self._agents = list(agents)

    def __enter__(self) -> list[AgentProcess]:
        return self._agents

    def __exit__(self, *_error: object) -> None:
        for agent in self._agents:
            agent.put_away()


@pytest.mark.parametrize("frozen_at", ["port off", "answer outstanding"])
async def test_a_port_is_never_driven_by_two_also_if_one_was_frozen_beyond_its_lease(
    tmp_path: Path, frozen_at: str
) -> None:
    lab, switch = PowerLab(), LineSwitch()
    async with lab.running(), switch.running():
        await lab.add("m")
        plan = Plan(
            lab.url, "rack", tmp_path / "1", switch.port, (("c", "m", "c/1"),), off_for_s=0.5, lease_s=1.5
        )
        with _putting_away(_started(plan, replace(plan, state_dir=tmp_path / "2"))) as agents:
            while (caught := await _frozen(frozen_at, lab, switch, agents)) is None:
                switch.done.clear()
            command, frozen, other = caught

            record = await lab.reached(command, PowerStatus.DONE)
            assert switch.states["c/1"] == ON
            theirs = len(switch.done)
            frozen.kill(signal.SIGCONT)
            await _both_have_asked(lab)
            await frozen.stop()
            await other.stop()

    assert [each.pid for each in switch.done[theirs:]] == []
    assert {each.pid for each in switch.done[1:]} == {other.pid}
    assert not switch.overlaps
    assert record.status is PowerStatus.DONE
    ends = {step.status for step in await lab.told(command) if not step.status.is_pending}
    assert ends == {PowerStatus.DONE}


def _started(*plans: Plan) -> list[AgentProcess]:
    for plan in plans:
        plan.state_dir.mkdir()
    return [AgentProcess(plan) for plan in plans]


async def _frozen(
    at: str, lab: PowerLab, switch: LineSwitch, agents: Sequence[AgentProcess]
) -> tuple[str, AgentProcess, AgentProcess] | None:
    """Order a cycle, and stop the agent that works at that moment: the command, which agent it is, and the other one.

    None if it was too quick for us, and has done it all.
    """
    command = await lab.order("m")
    if at == "answer outstanding":
        gate = switch.hold["off c/1"] = asyncio.Event()
    await until(lambda: bool(switch.done), "the port is off")
    one, two = agents
    frozen, other = (one, two) if switch.done[0].pid == one.pid else (two, one)
    if at == "port off":
        await lab.reached(command, PowerStatus.OFF)
    frozen.kill(signal.SIGSTOP)
    if at == "answer outstanding":
        gate.set()
        del switch.hold["off c/1"]
    await frozen.stopped()
    if all(each.pid == other.pid for each in switch.done[1:]):
        return command, frozen, other
    frozen.kill(signal.SIGCONT)
    await lab.reached(command, PowerStatus.DONE)
    return None


async def _both_have_asked(lab: PowerLab) -> None:
    """For the lease, and more than once: so the one that was frozen knows where it stands."""
    asked: list[str] = []
    acquire = lab.store.acquire

    async def counted(name: str, owner: str, *, seconds: float) -> bool:
        asked.append(owner)
        return await acquire(name, owner, seconds=seconds)

    lab.store.acquire = counted  # type: ignore[method-assign]  # to see who asks
    await until(lambda: len([each for each in set(asked) if asked.count(each) > 1]) == 2, "both asked")
