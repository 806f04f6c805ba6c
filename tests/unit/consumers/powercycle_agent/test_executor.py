"""One command, from the journal to its end: whatever goes wrong, the port is on, or somebody knows that it is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from consumers.powercycle_agent.drivers.errors import (
    DriverError,
    NotConfirmed,
    NotReached,
    TurnedAway,
    UnknownPort,
    Unreachable,
)
from consumers.powercycle_agent.drivers.protocol import PortState
from consumers.powercycle_agent.drivers.settings import SoftReboot
from consumers.powercycle_agent.executor import Executor
from consumers.powercycle_agent.inventory import Outlet
from consumers.powercycle_agent.journal import AlreadyKnown, Entry, Journal
from consumers.powercycle_agent.switching import Patience, Relinquished
from pipeline.clock import ManualClock
from schemas.power import PowerAction, PowerMoment, PowerRecord, PowerStatus, PowerStep
from tests.unit.consumers.powercycle_agent.fake_power import START, FakeDriver, Switch, order, outlet

QUICK = Patience(off_tries=3, on=0.3, first_pause=0.001, longest_pause=0.01, reserve=10.0)
ACCEPTED, OFF, ON, DONE, FAILED = (
    PowerStatus.ACCEPTED,
    PowerStatus.OFF,
    PowerStatus.ON,
    PowerStatus.DONE,
    PowerStatus.FAILED,
)
CYCLE = [ACCEPTED, OFF, ON, DONE]


class Leave:
    """A mandate that a test gives and takes."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def left(self) -> float:
        return self.seconds


class Rack:
    """An executor with a switch."""

    def __init__(self, directory: Path, patience: Patience = QUICK) -> None:
        self.switch = Switch()
        self.driver = FakeDriver(self.switch)
        self.clock = ManualClock(START)
        self.journal = Journal(directory)
        self.told: list[PowerStep] = []
        self.leave = Leave()
        self.reboots: list[str] = []
        self.reboot_trouble = ""
        self.executor = Executor(
            self.journal,
            self.clock,
            lambda step, _entry: self.told.append(step),
            agent="rack4",
            reboot=self.reboot,
            patience=patience,
            mandate=self.leave,
        )

    async def reboot(self, machine_id: str, _how: SoftReboot) -> str:
        self.reboots.append(machine_id)
        return self.reboot_trouble

    @property
    def statuses(self) -> list[PowerStatus]:
        return [step.status for step in self.told]

    async def carry_out(self, action: PowerAction = PowerAction.CYCLE, at: Outlet | None = None) -> Entry:
        entry = await self.executor.carry_out(order(action=action), at or outlet(), self.driver)
        assert isinstance(entry, Entry)
        return entry

    def found(self) -> list[Entry]:
        """What another process would find in the journal."""
        return self.journal.adopt(now=self.clock.now())


@pytest.fixture
def rack(tmp_path: Path) -> Rack:
    return Rack(tmp_path)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.001)


async def test_a_cycle_is_off_then_on_and_each_step_is_told(rack: Rack) -> None:
    entry = await rack.carry_out()

    assert rack.switch.switched == ["off 1", "on 1"]
    assert rack.statuses == CYCLE
    assert not entry.owes
    assert {step.agent for step in rack.told} == {"rack4"}
    assert rack.told[-1].text == ""


@pytest.mark.parametrize(("asked", "configured"), [(0.05, 3600), (None, 0.05)])
async def test_the_pause_is_the_commands_or_else_the_controllers(
    rack: Rack, asked: float | None, configured: float
) -> None:
    """In seconds, from when the port was off."""
    moments: dict[str, float] = {}
    rack.switch.before = lambda verb: moments.update({verb: time.monotonic()})

    await rack.executor.carry_out(order(delay_s=asked), outlet(off_for_s=configured), rack.driver)

    assert 0.05 <= moments["on"] - moments["off"] < 60


async def test_the_intent_is_on_disk_before_the_port_is_touched(rack: Rack) -> None:
    known: list[bool] = []
    command = order()
    rack.switch.before = lambda _verb: known.append(rack.journal.knows(command.id))

    await rack.executor.carry_out(command, outlet(), rack.driver)

    assert all(known)


@pytest.mark.parametrize(
    ("action", "done", "told"),
    [
        (PowerAction.ON, ["on 1"], [ACCEPTED, DONE]),
        (PowerAction.OFF, ["off 1"], [ACCEPTED, DONE]),
    ],
)
async def test_on_and_off_do_just_that(
    rack: Rack, action: PowerAction, done: list[str], told: list[PowerStatus]
) -> None:
    entry = await rack.carry_out(action)

    assert rack.switch.switched == done
    assert rack.statuses == told
    assert not entry.owes


async def test_an_expired_command_is_not_begun(rack: Rack) -> None:
    rack.clock.advance(timedelta(seconds=600))

    end = await rack.executor.carry_out(order(), outlet(), rack.driver)

    assert isinstance(end, PowerMoment)
    assert end.status is PowerStatus.EXPIRED
    assert rack.statuses == [PowerStatus.EXPIRED]
    assert rack.switch.done == []
    assert rack.found() == []


async def test_a_journal_that_cannot_be_written_refuses_before_anything_is_switched(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("in the way")
    rack = Rack(tmp_path / "journal")

    await rack.executor.carry_out(order(), outlet(), rack.driver)

    assert rack.statuses == [PowerStatus.REFUSED]
    assert "cannot be written" in rack.told[0].text
    assert rack.switch.done == []


async def test_the_same_command_is_not_carried_out_twice(rack: Rack) -> None:
    command = order()
    await rack.executor.carry_out(command, outlet(), rack.driver)

    with pytest.raises(AlreadyKnown):
        await rack.executor.carry_out(command, outlet(), rack.driver)

    assert rack.switch.switched == ["off 1", "on 1"]


async def test_each_try_tells_whether_the_controller_can_be_used(rack: Rack) -> None:
    rack.switch.faults = {"off": [Unreachable("gone"), NotConfirmed("no")], "on": [NotReached("no way")]}
    met: list[str] = []
    rack.executor._switch._met = lambda _entry, _outlet, trouble: met.append(trouble)

    await rack.carry_out()

    assert met == ["gone", "", "no way", ""]


async def test_a_switch_that_fails_for_a_moment_is_asked_again(rack: Rack) -> None:
    rack.switch.faults = {"off": [Unreachable("gone")], "on": [Unreachable("gone"), NotConfirmed("no")]}

    await rack.carry_out()

    assert rack.switch.switched == ["off 1", "off 1", "on 1", "on 1", "on 1"]
    assert rack.statuses == CYCLE


async def test_when_off_cannot_be_confirmed_the_port_is_switched_on_and_the_command_fails(rack: Rack) -> None:
    rack.switch.faults = {"off": [Unreachable("gone")] * 3}

    entry = await rack.carry_out()

    assert rack.switch.switched == ["off 1"] * 3 + ["on 1"]
    assert rack.statuses == [ACCEPTED, FAILED]
    assert rack.told[-1].text == "gone; the port is on"
    assert not entry.owes


async def test_when_neither_can_be_confirmed_the_state_is_not_known_and_the_debt_stays(rack: Rack) -> None:
    rack.switch.is_dead = True

    entry = await rack.carry_out()

    assert rack.statuses == [ACCEPTED, FAILED]
    assert rack.told[-1].text == (
        "the switch does not answer; the port's state is not known; trying on until it is on"
    )
    assert entry.owes
    assert entry.end is not None


@pytest.mark.parametrize("fault", [TurnedAway("wrong password"), UnknownPort("no port 1")])
async def test_a_switch_that_turns_us_away_is_not_asked_again_and_nothing_was_switched(
    rack: Rack, fault: DriverError
) -> None:
    rack.switch.faults = {"off": [fault]}

    entry = await rack.carry_out()

    assert rack.switch.switched == ["off 1"]
    assert rack.told[-1].text == f"{fault}; nothing was switched"
    assert not entry.owes


@pytest.mark.parametrize("action", list(PowerAction))
async def test_a_switch_that_is_never_reached_fails_after_its_tries_and_nothing_was_switched(
    rack: Rack, action: PowerAction
) -> None:
    rack.switch.faults = {verb: [NotReached("no connection")] * 1000 for verb in ("on", "off")}

    entry = await rack.carry_out(action)

    assert rack.switch.switched == [f"{'on' if action is PowerAction.ON else 'off'} 1"] * 3
    assert rack.statuses == [ACCEPTED, FAILED]
    assert rack.told[-1].text == "no connection; nothing was switched"
    assert not entry.owes


@pytest.mark.parametrize("reached_at", [0, 1, 2])
async def test_a_switch_that_may_have_heard_once_is_told_on_however_often_it_was_not_reached(
    rack: Rack, reached_at: int
) -> None:
    faults: list[Exception] = [NotReached("no connection")] * 3
    faults[reached_at] = Unreachable("gone")
    rack.switch.faults = {"off": faults, "on": [NotReached("no connection")] * 4}

    await rack.carry_out()

    assert rack.switch.switched == ["off 1"] * 3 + ["on 1"] * 5
    assert rack.told[-1].text.endswith("; the port is on")


async def test_a_port_that_is_off_is_switched_on_however_often_its_switch_is_not_reached(rack: Rack) -> None:
    rack.switch.faults = {"on": [NotReached("no connection")] * 5}

    await rack.carry_out()

    assert rack.switch.switched == ["off 1"] + ["on 1"] * 6
    assert rack.statuses == CYCLE


async def test_a_port_that_is_off_and_whose_switch_is_never_reached_is_owed(rack: Rack) -> None:
    rack.switch.faults = {"on": [NotReached("no connection")] * 1000}

    entry = await rack.carry_out()

    assert rack.statuses == [ACCEPTED, OFF, FAILED]
    assert len(rack.switch.switched) > 5
    assert entry.owes


async def test_a_port_that_cannot_be_switched_on_fails_loudly_and_is_owed(rack: Rack) -> None:
    rack.switch.faults = {"on": [Unreachable("gone")] * 1000}

    entry = await rack.carry_out()

    assert rack.statuses == [ACCEPTED, OFF, FAILED]
    assert "cannot be switched on: gone" in rack.told[-1].text
    assert len(rack.switch.switched) > 5
    assert entry.owes

    assert await rack.executor.settle(entry, rack.driver, reads_back=True) == "gone"
    rack.switch.faults = {}
    assert await rack.executor.settle(entry, rack.driver, reads_back=True) == ""
    assert not entry.owes


async def test_a_port_that_says_it_is_off_after_all_is_switched_on_again(
    rack: Rack, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [PortState.OFF, PortState.ON]

    async def status(port: str) -> PortState:
        return answers.pop(0)

    monkeypatch.setattr(rack.driver, "status", status)

    await rack.carry_out()

    assert rack.switch.switched == ["off 1", "on 1", "on 1"]
    assert rack.statuses == CYCLE


async def test_a_driver_that_never_answers_is_given_up(tmp_path: Path) -> None:
    rack = Rack(tmp_path, replace(QUICK, call=0.2))
    rack.switch.holds = {"off": asyncio.Event()}

    await rack.carry_out()

    assert rack.statuses == [ACCEPTED, FAILED]
    assert "no answer within" in rack.told[-1].text
    assert rack.switch.switched[-1] == "on 1"


async def test_a_bug_in_somebodys_driver_leaves_no_port_off(rack: Rack) -> None:
    rack.switch.faults = {"on": [ZeroDivisionError("a bug")]}

    await rack.carry_out()

    assert rack.statuses == CYCLE
    assert rack.switch.states["1"] is PortState.ON


async def test_what_a_device_says_is_told_without_what_no_database_or_terminal_takes(rack: Rack) -> None:
    rack.switch.faults = {"off": [TurnedAway("it says \x00\ud800\x1b[2J\n" + "\x07" * 3000)]}

    await rack.carry_out()

    assert rack.statuses == [ACCEPTED, FAILED]
    assert rack.told[-1].text.startswith(r"it says \x00\ud800\x1b[2J\n\x07")
    assert rack.told[-1].text.isprintable()


async def test_a_cycle_that_is_cancelled_switches_the_port_on_first(rack: Rack) -> None:
    running = asyncio.create_task(rack.carry_out(at=outlet(off_for_s=500)))
    await until(lambda: rack.statuses == [ACCEPTED, OFF])

    running.cancel()
    await asyncio.wait({running})

    assert running.cancelled()
    assert rack.switch.switched == ["off 1", "on 1"]
    assert rack.statuses == CYCLE
    assert "because the agent was asked to end" in rack.told[-1].text


async def test_a_port_that_cannot_be_switched_on_in_time_is_left_to_the_journal(tmp_path: Path) -> None:
    rack = Rack(tmp_path, replace(QUICK, ending=0.5))
    running = asyncio.create_task(rack.carry_out(at=outlet(off_for_s=500)))
    await until(lambda: rack.statuses == [ACCEPTED, OFF])
    rack.switch.holds = {"on": asyncio.Event()}

    running.cancel()
    await asyncio.wait({running})

    (entry,) = rack.found()
    assert entry.owes
    assert entry.end is None or entry.end.status is FAILED
    entry.release()


async def test_a_command_that_is_cancelled_before_the_port_is_touched_is_left_to_the_next(rack: Rack) -> None:
    rack.reboot_trouble = "never"
    hold = asyncio.Event()

    async def reboot(_machine: str, _how: SoftReboot) -> str:
        await hold.wait()
        return ""

    rack.executor._reboot = reboot
    running = asyncio.create_task(rack.carry_out(at=outlet(soft_reboot=SoftReboot())))
    await until(lambda: rack.statuses == [ACCEPTED])

    running.cancel()
    await asyncio.wait({running})

    assert rack.switch.done == []
    (entry,) = rack.found()
    assert entry.end is None
    entry.release()


async def test_a_port_is_switched_on_early_while_the_mandate_still_lasts(rack: Rack) -> None:
    rack.leave.seconds = 10.05  # 10 are reserved for switching on

    def less(_verb: str) -> None:
        rack.leave.seconds = 9.9

    rack.switch.before = less
    await rack.carry_out(at=outlet(off_for_s=500))

    assert rack.statuses == CYCLE
    assert "because the agent lost touch with the lab" in rack.told[-1].text


async def test_without_a_mandate_no_port_is_touched(rack: Rack) -> None:
    rack.leave.seconds = 0

    with pytest.raises(Relinquished):
        await rack.carry_out()

    assert rack.switch.done == []
    (entry,) = rack.found()
    entry.release()


async def test_a_mandate_that_ends_while_the_port_is_off_leaves_it_to_whoever_has_it_now(rack: Rack) -> None:
    def revoked(verb: str) -> None:
        if verb == "off":
            rack.leave.seconds = 0

    rack.switch.before = revoked

    with pytest.raises(Relinquished):
        await rack.carry_out()

    assert rack.switch.switched == ["off 1"]
    (entry,) = rack.found()
    assert entry.owes
    entry.release()


async def test_a_machine_that_reboots_over_ssh_keeps_its_port(rack: Rack) -> None:
    entry = await rack.carry_out(at=outlet(soft_reboot=SoftReboot()))

    assert rack.reboots == ["m1"]
    assert rack.switch.done == []
    assert rack.statuses == [ACCEPTED, DONE]
    assert "rebooted over SSH" in rack.told[-1].text
    assert not entry.owes


async def test_a_machine_that_does_not_reboot_has_its_port_cycled(rack: Rack) -> None:
    rack.reboot_trouble = "no route"

    await rack.carry_out(at=outlet(soft_reboot=SoftReboot()))

    assert rack.statuses == CYCLE
    assert "no route" in rack.told[-1].text


async def test_on_and_off_do_not_reboot(rack: Rack) -> None:
    await rack.carry_out(PowerAction.OFF, outlet(soft_reboot=SoftReboot()))

    assert rack.reboots == []


# --- carrying on -------------------------------------------------------------------------------------------------------


async def interrupted(rack: Rack, *reached: PowerStatus, action: PowerAction = PowerAction.CYCLE) -> Entry:
    """What a process that died after these steps left in the journal."""
    command = order(action=action)
    journal = rack.journal
    entry = journal.begin(
        rack.executor._intent(command, outlet()), PowerMoment(status=ACCEPTED, at=rack.clock.now())
    )
    for status in reached:
        entry.record(PowerMoment(status=status, at=rack.clock.now()))
    entry.release()
    (found,) = rack.found()
    return found


async def resumed(rack: Rack, entry: Entry, *, is_wanted: bool = True) -> list[PowerStatus]:
    await rack.executor.resume(entry, outlet(), rack.driver, is_wanted=is_wanted)
    assert not entry.owes
    entry.release()
    return rack.statuses


async def test_a_port_that_was_off_when_the_agent_died_is_switched_on_and_the_command_done(
    rack: Rack,
) -> None:
    entry = await interrupted(rack, OFF)
    rack.clock.advance(timedelta(days=1))

    assert await resumed(rack, entry) == [ON, DONE]
    assert rack.switch.switched == ["on 1"]
    assert "interrupted" in rack.told[-1].text


async def test_what_was_not_known_to_be_off_is_cycled_anew(rack: Rack) -> None:
    entry = await interrupted(rack)

    assert await resumed(rack, entry) == [OFF, ON, DONE]
    assert rack.switch.switched == ["off 1", "on 1"]


@pytest.mark.parametrize("fault", [NotReached("no connection"), TurnedAway("wrong password")])
async def test_what_was_interrupted_may_have_been_off_although_its_switch_is_not_reached_now(
    rack: Rack, fault: DriverError
) -> None:
    rack.switch.faults = {"off": [fault] * 3}
    entry = await interrupted(rack)

    assert await resumed(rack, entry) == [FAILED]
    assert rack.switch.switched[-1] == "on 1"
    assert rack.told[-1].text.endswith("the port is on")


@pytest.mark.parametrize("why", ["expired", "unwanted"])
async def test_what_nobody_waits_for_any_more_is_switched_on_and_has_failed(rack: Rack, why: str) -> None:
    entry = await interrupted(rack)
    if why == "expired":
        rack.clock.advance(timedelta(seconds=601))

    assert await resumed(rack, entry, is_wanted=why != "unwanted") == [FAILED]
    assert rack.switch.switched == ["on 1"]
    assert "interrupted" in rack.told[-1].text


async def test_an_interrupted_off_is_finished_if_it_is_still_wanted(rack: Rack) -> None:
    assert await resumed(rack, await interrupted(rack, action=PowerAction.OFF)) == [DONE]
    assert rack.switch.switched == ["off 1"]


async def test_an_interrupted_off_that_nobody_wants_any_more_touches_nothing(rack: Rack) -> None:
    entry = await interrupted(rack, action=PowerAction.OFF)

    assert await resumed(rack, entry, is_wanted=False) == [FAILED]
    assert rack.switch.switched == []


@pytest.mark.parametrize(
    ("reached", "told"), [(ACCEPTED, [OFF, ON, DONE]), (OFF, [ON, DONE]), (ON, [ON, DONE])]
)
async def test_what_another_agent_began_is_finished(
    rack: Rack, reached: PowerStatus, told: list[PowerStatus]
) -> None:
    command = order()
    steps = [PowerMoment(status=status, at=START) for status in CYCLE[: CYCLE.index(reached) + 1]]
    record = PowerRecord(command=command, status=reached, steps=steps, agent="rack4")

    await rack.executor.take_over(record, outlet(), rack.driver)

    assert rack.statuses == told
    assert rack.switch.states["1"] is PortState.ON


async def test_the_rest_of_the_pause_is_kept_when_a_cycle_is_carried_on_at_once(rack: Rack) -> None:
    entry = await interrupted(rack, OFF)
    running = asyncio.create_task(
        rack.executor.resume(entry, outlet(off_for_s=300), rack.driver, is_wanted=True)
    )
    await asyncio.sleep(0.02)

    assert rack.switch.done == []
    running.cancel()
    await asyncio.wait({running})
    assert rack.switch.switched == ["on 1"]
    entry.release()
