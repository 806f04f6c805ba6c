"""`powercycle` drives switches itself, which speak their real protocol: beside an agent, and whatever ends it in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from consumers.powercycle_agent.drivers.protocol import PortState
from consumers.powercycle_agent.inventory import Controller
from consumers.powercycle_agent.journal import Journal
from consumers.powercycle_agent.locks import Locks
from pipeline.clock import SystemClock
from schemas.power import PowerRecord, PowerStatus, PowerStep
from tests.failures.power.lab import PowerLab, until
from tests.power_devices.device import Hold
from tests.power_devices.edgeswitch import FakeEdgeSwitch
from tests.power_devices.mpower import FakeMPower
from tests.unit.consumers.powercycle_agent.fake_lab import FakeLab, Host
from tests.unit.consumers.powercycle_agent.fake_power import KIND, controller, order
from tests.unit.consumers.powercycle_agent.old_command import (
    NOWHERE,
    Ran,
    child,
    devices,
    powercycle_beside,
    said,
)

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("quiet_server")]

DEADLINE_S = 30
STRIP = {"m1": 1, "m2": 2}
ALL_DONE = "Power cycle successful. All done."


class Rack:
    """A strip, a switch, and a host that can reach them."""

    def __init__(self, folder: Path) -> None:
        self.strip = FakeMPower()
        self.switch = FakeEdgeSwitch()
        self.state = folder / "state"
        self._folder = folder

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.strip.start()
        await self.switch.start()
        try:
            yield
        finally:
            await self.strip.stop()
            await self.switch.stop()

    def arguments(self, *more: str, url: str = NOWHERE) -> list[str]:
        conf = devices(self._folder, mpower=(self.strip, STRIP), edgeswitch=(self.switch, {"m3-device": 7}))
        return ["-conf", str(conf), "-url", url, "-state-dir", str(self.state), "-delay=0.05", *more]

    async def run(self, *more: str, url: str = NOWHERE) -> Ran:
        return await powercycle_beside(*self.arguments(*more, url=url))

    @asynccontextmanager
    async def process(self, *more: str, url: str = NOWHERE) -> AsyncIterator[asyncio.subprocess.Process]:
        """The same as a process of its own."""
        async with child(*self.arguments(*more, url=url), state=self.state) as process:
            yield process

    def writes(self) -> list[str]:
        """What was done to the strip's ports."""
        return [each for each in self.strip.commands if each.startswith("echo")]

    def left(self) -> list[str]:
        """Machines of which the journal has something to do or to tell."""
        found = Journal(self.state / "journal").adopt(now=SystemClock().now())
        for entry in found:
            entry.release()
        return [entry.command.machine_id for entry in found]

    def is_off(self) -> bool:
        return self.strip.states["1"] is PortState.OFF


@pytest.fixture
async def rack(tmp_path: Path) -> AsyncIterator[Rack]:
    rack = Rack(tmp_path)
    async with rack.running(), asyncio.timeout(DEADLINE_S):
        yield rack


async def ended(lab: PowerLab, machine_id: str) -> PowerRecord:
    """Wait until the lab knows what became of the machine's only command."""
    while not (records := await lab.store.power_commands(machine_id=machine_id, pending=False)):
        await asyncio.sleep(0.005)
    [record] = records
    return record


async def test_switches_are_driven_and_the_lab_hears_of_it(rack: Rack) -> None:
    lab = PowerLab()
    async with lab.running():
        await lab.add("m1", "m3-device")
        ran = await rack.run("-direct", "-reason=hangs", "m1", "m3", "m3-device", url=lab.url)
        assert ran.code == 1, "nobody knows m3"
        ran = await rack.run("-direct", "-reason=hangs", "m1", "m3-device", url=lab.url)
        assert (ran.code, ran.lines[-1]) == (0, ALL_DONE)
        for machine in ("m1", "m3-device"):
            assert [line for line in ran.lines if line.startswith(machine)] == [
                f"{machine}: {status}" for status in ("accepted", "off", "on", "done")
            ]
            record = await ended(lab, machine)
            assert (record.status, record.command.why) == (PowerStatus.DONE, "hangs")
            assert [each.status for each in record.steps][1:] == ["accepted", "off", "on", "done"]
    assert rack.writes() == ["echo 0 > /proc/power/relay1", "echo 1 > /proc/power/relay1"]
    assert [each for each in rack.switch.commands if "opmode" in each] == [
        "poe opmode shutdown",
        "poe opmode auto",
    ]
    assert rack.left() == []


async def test_what_was_done_while_the_lab_was_away_is_told_by_the_next_run(rack: Rack) -> None:
    ran = await rack.run("m1")
    assert (ran.code, ran.lines[-1]) == (0, ALL_DONE)
    assert any(line.startswith("Could not report to the lab") for line in ran.lines)
    assert rack.left() == ["m1"]
    lab = PowerLab()
    async with lab.running():
        await lab.add("m1", "m2")
        assert (await rack.run("-direct", "m2", url=lab.url)).code == 0
        assert (await ended(lab, "m1")).status is PowerStatus.DONE
        assert (await ended(lab, "m2")).status is PowerStatus.DONE
    assert rack.left() == []


async def test_a_device_that_is_no_machine_of_the_lab_is_driven_from_here(rack: Rack) -> None:
    lab = PowerLab()
    async with lab.running():
        ran = await rack.run("m3-device", url=lab.url)
        assert (ran.code, ran.lines[-1]) == (0, ALL_DONE)
        assert ran.lines[0] == "The lab has no machine m3-device: driving the switches from here."
        assert (await ended(lab, "m3-device")).status is PowerStatus.DONE


async def test_where_there_is_no_lab_nothing_is_kept_for_it(rack: Rack) -> None:
    ran = await rack.run("m1", url="")
    assert (ran.code, ran.lines[0]) == (0, "Driving the switches from here: there is no lab.")
    assert rack.left() == []


async def test_a_switch_that_is_away_does_not_stop_the_other(rack: Rack) -> None:
    await rack.switch.stop()
    ran = await rack.run("m3-device", "m1", url="")
    assert ran.code == 1
    assert "m1: done" in ran.lines
    assert ran.lines[-1].startswith("Unable to power cycle device m3-device. Got error: ")
    assert rack.left() == []


async def test_it_waits_for_whoever_drives_the_controller(rack: Rack) -> None:
    async with AsyncExitStack() as holding:
        await holding.enter_async_context(Locks(rack.state / "locks").hold("mpower/it"))
        async with rack.process("m1", url="") as process:
            waiting = await said(process, "Waiting: ")
            assert f"another process on this host drives mpower/it (process {os.getpid()})" in waiting
            assert rack.strip.logins == 0
            await holding.aclose()
            await said(process, "m1: done")
            assert await process.wait() == 0


def strip() -> Controller:
    """The same controller as an agent has it, with a fake of its own behind."""
    return controller("it", {"m1": "1", "m2": "2"}, kind=replace(KIND, name="mpower"))


async def test_an_agent_at_work_and_the_command_take_turns(rack: Rack) -> None:
    lab = FakeLab()
    host = Host(lab, rack.state, strip())
    holding = asyncio.Event()
    switch = host.switch("it")
    switch.holds = {"on": holding}
    async with host.agent():
        await until(lambda: lab.listeners > 0, "the agent listens")
        lab.order(command := order("m2", now=SystemClock().now()))
        await until(lambda: "on 2" in switch.done, "the agent has switched off")
        async with rack.process("m1", url="") as process:
            await said(process, "Waiting: ")
            assert rack.strip.logins == 0
            holding.set()
            await said(process, "m1: done")
            assert await process.wait() == 0
        await until(lambda: lab.has_ended(command), "the agent's own")
    assert lab.statuses(command)[-1] is PowerStatus.DONE


async def kill_in_the_middle(rack: Rack) -> None:
    rack.strip.hold = Hold()  # it must not be on again before we have heard of it
    async with rack.process("-delay=0.5", "m1") as process:
        await said(process, "m1: off")
        process.kill()
        await process.wait()
    assert rack.is_off()
    rack.strip.hold.is_forgotten = True
    rack.strip.hold = None


async def test_what_a_killed_run_left_off_the_next_run_switches_on_and_tells(rack: Rack) -> None:
    await kill_in_the_middle(rack)
    lab = PowerLab()
    async with lab.running():
        await lab.add("m1", "m2")
        ran = await rack.run("-direct", "-delay=0.01", "m2", url=lab.url)
        assert ran.code == 0
        assert ran.lines[1] == "m1: carrying on with what an earlier run left"
        assert not rack.is_off()
        record = await ended(lab, "m1")
    assert (record.status, record.text) == (PowerStatus.DONE, "interrupted, and carried on")
    assert rack.left() == []


def ends(lab: FakeLab) -> list[PowerStep]:
    steps = [result for result in lab.results if isinstance(result, PowerStep)]
    return [step for step in steps if not step.status.is_pending]


async def test_what_a_killed_run_left_off_the_agent_switches_on_and_tells(rack: Rack) -> None:
    await kill_in_the_middle(rack)
    lab = FakeLab()
    host = Host(lab, rack.state, strip())
    async with host.agent():
        await until(lambda: host.switch("it").switched == ["on 1"], "the port is on")
        await until(lambda: bool(ends(lab)), "the lab knows")
    [end] = ends(lab)
    assert end.status is PowerStatus.DONE
    assert end.command is not None
    assert end.command.machine_id == "m1"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
async def test_one_that_is_interrupted_switches_on_first(rack: Rack, number: signal.Signals) -> None:
    async with rack.process("-delay=60", "m1", url="") as process:
        await said(process, "m1: off")
        process.send_signal(number)
        told = await said(process, "m1: done")
        assert "because the agent was asked to end" in told
        assert await process.wait() == 130
    assert not rack.is_off()
    assert rack.left() == []
