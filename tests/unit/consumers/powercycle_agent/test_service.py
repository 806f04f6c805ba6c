"""The agent as a whole, with a lab and switches in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from consumers.powercycle_agent import lease, service
from consumers.powercycle_agent.drivers.errors import NotConfirmed, NotReached, Unreachable
from consumers.powercycle_agent.drivers.protocol import PortState
from consumers.powercycle_agent.journal import Entry, Intent, Journal
from consumers.powercycle_agent.locks import Locks
from consumers.powercycle_agent.switching import Patience
from pipeline.clock import SystemClock
from schemas.description import PowerCycleState
from schemas.power import PowerAction, PowerCommand, PowerMoment, PowerResult, PowerStatus, PowerStep
from tests.unit.consumers.powercycle_agent.fake_lab import (
    LONG_S,
    SHORT_S,
    FakeLab,
    Host,
    ended,
    listening,
    new,
    until,
)
from tests.unit.consumers.powercycle_agent.fake_power import controller

pytestmark = pytest.mark.slow

ACCEPTED, OFF, ON, DONE, FAILED = (
    PowerStatus.ACCEPTED,
    PowerStatus.OFF,
    PowerStatus.ON,
    PowerStatus.DONE,
    PowerStatus.FAILED,
)
CYCLE = [ACCEPTED, OFF, ON, DONE]


def now() -> datetime:
    return SystemClock().now()


async def test_a_command_is_carried_out_and_its_steps_are_told(lab: FakeLab, host: Host) -> None:
    async with host.agent():
        await listening(lab)
        command = lab.order(new())
        await ended(lab, command)

    assert lab.statuses(command) == CYCLE
    assert host.switch().switched == ["off 1", "on 1"]
    assert host.switch().closed == host.switch().opened == 1


async def test_what_was_ordered_while_nobody_listened_is_carried_out_at_the_start(
    lab: FakeLab, host: Host
) -> None:
    command = lab.order(new())
    async with host.agent():
        await ended(lab, command)

    assert lab.statuses(command) == CYCLE


async def test_what_was_not_heard_is_made_up_for(lab: FakeLab, host: Host) -> None:
    async with host.agent():
        await listening(lab)
        command = lab.order(new(), tell=False)
        await ended(lab, command)


async def test_machines_of_others_are_nobodys_business(lab: FakeLab, host: Host) -> None:
    async with host.agent():
        await listening(lab)
        theirs, ours = lab.order(new("elsewhere")), lab.order(new())
        await ended(lab, ours)

    assert lab.statuses(theirs) == []


async def test_a_command_for_another_agent_with_the_same_port_is_left_to_that_one(
    lab: FakeLab, host: Host
) -> None:
    async with host.agent():
        await listening(lab)
        others, ours = lab.order(new(agent="rack5")), lab.order(new("m2", agent="rack4"))
        await ended(lab, ours)
        await asyncio.sleep(3 * host.settings.pending_every.total_seconds())

    assert lab.statuses(others) == []
    assert host.switch().switched == ["off 2", "on 2"]


async def test_a_command_that_is_delivered_again_is_not_carried_out_again(lab: FakeLab, host: Host) -> None:
    async with host.agent():
        await listening(lab)
        command = lab.order(new())
        lab.tell(command)
        await ended(lab, command)
        lab.tell(command)
    async with host.agent():
        await listening(lab)
        lab.tell(command)
        another = lab.order(new())
        await ended(lab, another)

    assert host.switch().switched == ["off 1", "on 1"] * 2
    assert lab.statuses(command) == CYCLE


async def test_one_command_at_a_time_drives_a_controller_and_controllers_work_side_by_side(
    lab: FakeLab, tmp_path: Path
) -> None:
    racks = [controller(f"r{rack}", {f"m{rack}-{n}": str(n) for n in range(10)}) for rack in range(20)]
    host = Host(lab, tmp_path, *racks)
    switches = [host.switch(rack.label) for rack in racks]
    go_on = asyncio.Event()
    for switch in switches:
        switch.holds = {"on": go_on}
    async with host.agent():
        await listening(lab)
        commands = [lab.order(new(machine)) for rack in racks for machine in rack.ports]
        await until(lambda: all(switch.switched == ["off 0", "on 0"] for switch in switches), "side by side")
        go_on.set()
        await ended(lab, *commands)

    assert all(lab.statuses(command) == CYCLE for command in commands)
    for switch in switches:
        assert switch.most_busy == 1
        assert switch.switched == [f"{verb} {n}" for n in range(10) for verb in ("off", "on")]


async def test_commands_wait_their_turn_and_may_be_withdrawn_or_expire_meanwhile(
    lab: FakeLab, host: Host
) -> None:
    host.switch().holds = {"off": asyncio.Event()}
    async with host.agent():
        await listening(lab)
        first = lab.order(new())
        await until(lambda: host.switch().switched == ["off 1"])
        withdrawn, expiring, last = (
            lab.order(new("m2")),
            lab.order(new("m2", expires_in_s=0.02)),
            lab.order(new("m2", PowerAction.ON)),
        )
        lab.cancel(withdrawn)
        lab.cancel(first)
        await until(lambda: now() > expiring.expires_at)
        host.switch().holds["off"].set()
        await ended(lab, first, withdrawn, expiring, last)

    assert lab.statuses(first) == CYCLE
    assert lab.statuses(withdrawn) == [PowerStatus.CANCELLED]
    assert lab.steps(withdrawn)[-1].text == "", "the lab knows who withdrew it"
    assert lab.statuses(expiring) == [PowerStatus.EXPIRED]
    assert host.switch().switched == ["off 1", "on 1", "on 2"]


async def test_machines_are_reported_at_the_start_on_change_and_again_and_again(
    lab: FakeLab, host: Host
) -> None:
    host.settings = replace(host.settings, probe_every=timedelta(milliseconds=20))
    async with host.agent():
        await until(lambda: len(lab.reports("m1")) > 2 and len(lab.reports("m2")) > 2)
        host.switch().is_dead = True
        await until(lambda: lab.reports("m1")[-1].state is PowerCycleState.IN_ERROR)
        assert lab.reports("m1")[-1].text == "the switch does not answer"
        host.switch().is_dead = False
        await until(lambda: lab.reports("m2")[-1].state is PowerCycleState.AVAILABLE)

    first = lab.reports("m2")[0]
    assert (first.state, first.controller, first.port, first.agent) == (
        PowerCycleState.AVAILABLE,
        "fake/rack4",
        "2",
        "rack4",
    )


async def test_what_a_controller_babbles_is_reported_without_what_no_database_takes(
    lab: FakeLab, host: Host
) -> None:
    host.switch().faults = {"probe": [NotConfirmed("it says \x00\ud800")]}
    async with host.agent():
        await until(lambda: bool(lab.reports("m1")))

    assert lab.reports("m1")[0].state is PowerCycleState.IN_ERROR
    assert lab.reports("m1")[0].text == r"it says \x00\ud800"


async def test_a_controller_that_cannot_be_used_is_reported_with_the_reason_and_others_work(
    lab: FakeLab, tmp_path: Path
) -> None:
    bad = controller("bad", {"m9": "9"}, problem="powercycle.json5: bad: port: no such key")
    host = Host(lab, tmp_path, bad, controller())
    async with host.agent():
        await listening(lab)
        refused, done = lab.order(new("m9")), lab.order(new())
        await ended(lab, refused, done)
        await until(lambda: bool(lab.reports("m9")))

    assert lab.reports("m9")[0].state is PowerCycleState.IN_ERROR
    assert lab.reports("m9")[0].text == bad.problem
    assert lab.statuses(refused) == [PowerStatus.REFUSED]
    assert bad.problem in lab.steps(refused)[0].text
    assert lab.statuses(done) == CYCLE


async def test_a_command_does_not_wait_for_a_probe(lab: FakeLab, host: Host) -> None:
    host.switch().holds = {"probe": asyncio.Event()}
    async with host.agent():
        await listening(lab)
        await until(lambda: "probe" in host.switch().done)
        command = lab.order(new())
        await ended(lab, command)

    assert host.switch().most_busy == 1


async def test_a_port_that_cannot_be_switched_on_is_tried_until_it_is(lab: FakeLab, host: Host) -> None:
    host.switch().faults = {"on": [Unreachable("gone")] * 10_000}
    async with host.agent():
        await listening(lab)
        command = lab.order(new())
        await ended(lab, command)
        assert lab.statuses(command) == [ACCEPTED, OFF, FAILED]
        owed = "port 1 of m1 may be off and cannot be switched on: gone"
        await until(lambda: bool(lab.reports("m2")) and owed in lab.reports("m2")[-1].text)
        assert lab.reports("m2")[-1].state is PowerCycleState.IN_ERROR
        host.switch().faults = {}
        await until(lambda: host.switch().states["1"] is PortState.ON)
        await until(lambda: lab.reports("m2")[-1].state is PowerCycleState.AVAILABLE)

    assert lab.statuses(command) == [ACCEPTED, OFF, FAILED]
    assert Journal(host.settings.journal).adopt(now=now()) == []


async def test_a_controller_that_fails_a_command_is_in_error_at_once_and_available_when_it_answers(
    lab: FakeLab, tmp_path: Path
) -> None:
    """Not only when the command ends, and not only when a probe comes by."""
    host = Host(lab, tmp_path, controller(), patience=Patience(first_pause=0.001, longest_pause=0.01))

    def state() -> PowerCycleState:
        return lab.reports("m2")[-1].state

    async with host.agent():
        await listening(lab)
        await until(lambda: bool(lab.reports("m2")))
        probes = host.switch().done.count("probe")
        host.switch().faults = {"on": [NotReached("no connection")] * 10_000}
        command = lab.order(new(delay_s=0.05))
        await until(lambda: state() is PowerCycleState.IN_ERROR)
        assert lab.reports("m2")[-1].text == "no connection"
        await until(lambda: lab.explanations(command) == [(OFF, "no connection")])
        host.switch().faults = {}
        await until(lambda: state() is PowerCycleState.AVAILABLE)
        assert host.switch().done.count("probe") == probes
        await ended(lab, command)

    assert lab.statuses(command) == CYCLE


async def test_the_log_says_what_is_begun_for_whom_and_which_controllers_answer(
    lab: FakeLab, host: Host
) -> None:
    with capture_logs() as logged:
        async with host.agent():
            await listening(lab)
            command = lab.order(new())
            await ended(lab, command)

    (begun,) = (each for each in logged if each["event"] == "command_begun")
    assert begun["command"] == command.id
    assert (begun["machine"], begun["controller"], begun["port"]) == ("m1", "fake/rack4", "1")
    assert (begun["action"], begun["who"]) == ("cycle", "ann")
    assert [each["controller"] for each in logged if each["event"] == "controller_available"] == [
        "fake/rack4"
    ]


async def test_a_port_that_is_owed_is_still_owed_after_a_restart(lab: FakeLab, host: Host) -> None:
    host.switch().faults = {"on": [Unreachable("gone")] * 10_000}
    async with host.agent():
        await listening(lab)
        command = lab.order(new())
        await ended(lab, command)
    host.switch().faults = {}
    async with host.agent():
        await until(lambda: host.switch().states["1"] is PortState.ON)

    told = lab.statuses(
        command
    )  # again after the restart, if the first agent ended before it knew that all was taken
    assert list(dict.fromkeys(told)) == [ACCEPTED, OFF, FAILED]


async def test_an_agent_that_is_asked_to_stop_switches_the_port_on_and_says_so(
    lab: FakeLab, host: Host
) -> None:
    async with host.agent():
        await listening(lab)
        running, waiting = lab.order(new(delay_s=500)), lab.order(new("m2"))
        await until(lambda: OFF in lab.statuses(running))

    assert lab.statuses(running) == CYCLE
    assert "asked to end" in lab.steps(running)[-1].text
    assert lab.statuses(waiting) == []
    async with host.agent():
        await ended(lab, waiting)


async def test_results_are_told_in_order_once_the_lab_is_back(lab: FakeLab, host: Host) -> None:
    async with host.agent():
        await listening(lab)
        command = lab.order(new())
        lab.is_away = True
        await until(lambda: host.switch().switched == ["off 1", "on 1"])
        await asyncio.sleep(0.05)
        assert lab.statuses(command) == []
        lab.is_away = False
        await ended(lab, command)

    assert lab.statuses(command) == CYCLE


async def test_results_that_were_not_told_before_a_restart_are_told_after_it(
    lab: FakeLab, host: Host
) -> None:
    entry = _left_behind(host, lab.order(new()), OFF, ON, DONE)
    async with host.agent():
        await ended(lab, entry.command)

    assert lab.statuses(entry.command) == CYCLE
    assert host.switch().switched == []


async def test_an_end_that_was_lost_on_the_way_is_told_again(lab: FakeLab, host: Host) -> None:
    async with host.agent():
        await listening(lab)
        command = lab.order(new())
        await ended(lab, command)
        lab.order(command, tell=False)  # as if the lab had heard nothing
        await until(lambda: lab.records[command.id].status is DONE)

    assert host.switch().switched == ["off 1", "on 1"]


async def test_what_was_refused_is_told_again_and_never_begun_after_all(
    lab: FakeLab, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_DECLINED_S", 0.0)
    host.settings.journal.write_text("in the way")
    async with host.agent():
        await listening(lab)
        command = lab.order(new())
        await ended(lab, command)
        host.settings.journal.unlink()
        lab.order(command, tell=False)  # as if the lab had heard nothing
        await until(lambda: lab.records[command.id].status is PowerStatus.REFUSED)

    assert set(lab.statuses(command)) == {PowerStatus.REFUSED}
    assert host.switch().switched == []


async def test_a_result_that_the_lab_will_never_take_holds_up_nothing(lab: FakeLab, host: Host) -> None:
    lab.refuses = lambda result: getattr(result, "status", None) is OFF
    async with host.agent():
        await listening(lab)
        command = lab.order(new())
        await ended(lab, command)

    assert lab.statuses(command) == [ACCEPTED, ON, DONE]


# --- carrying on -------------------------------------------------------------------------------------------------------


def _left_behind(
    host: Host, command: PowerCommand, *reached: PowerStatus, at: datetime | None = None, brings: bool = False
) -> Entry:
    """What a process that died left in the journal."""
    at = at or datetime(2026, 1, 1, tzinfo=UTC)
    intent = Intent(command=command, agent="rack4", controller="fake/rack4", port="1", brings_command=brings)
    entry = Journal(host.settings.journal).begin(intent, PowerMoment(status=ACCEPTED, at=at))
    for status in reached:
        entry.record(PowerMoment(status=status, at=at), settles=status is ON)
    entry.release()
    return entry


@pytest.mark.parametrize(
    ("reached", "done"), [([], ["off 1", "on 1"]), ([OFF], ["on 1"]), ([OFF, ON], ["on 1"])]
)
async def test_a_cycle_that_a_crash_interrupted_is_finished(
    lab: FakeLab, host: Host, reached: list[PowerStatus], done: list[str]
) -> None:
    entry = _left_behind(host, lab.order(new()), *reached)
    async with host.agent():
        await ended(lab, entry.command)

    assert host.switch().switched == done
    assert lab.statuses(entry.command)[-2:] == [ON, DONE]
    assert lab.statuses(entry.command).count(DONE) == 1


async def test_an_interrupted_cycle_that_the_lab_has_given_up_leaves_the_port_on(
    lab: FakeLab, host: Host
) -> None:
    entry = _left_behind(host, new())
    async with host.agent():
        await ended(lab, entry.command)

    assert host.switch().switched == ["on 1"]
    assert lab.statuses(entry.command)[-1] is FAILED


async def test_a_command_of_the_direct_mode_that_died_is_seen_to_while_the_agent_runs(
    lab: FakeLab, host: Host
) -> None:
    async with host.agent():
        await listening(lab)
        entry = _left_behind(host, new(), OFF, brings=True)
        await ended(lab, entry.command)

    assert host.switch().switched == ["on 1"]
    assert all(step.command == entry.command for step in lab.steps(entry.command))


async def test_a_port_whose_controller_is_not_configured_any_more_waits_until_it_is(
    lab: FakeLab, tmp_path: Path
) -> None:
    host = Host(lab, tmp_path, controller("another", {"m7": "7"}))
    entry = _left_behind(host, lab.order(new()), OFF)
    async with host.agent():
        await listening(lab)
        await asyncio.sleep(0.05)
        assert not lab.has_ended(entry.command)
        host.configure(controller())
        await ended(lab, entry.command)

    assert host.switch().switched == ["on 1"]


# --- the lease ---------------------------------------------------------------------------------------------------------


async def test_one_process_of_a_name_works_and_the_other_takes_over_when_it_ends(
    lab: FakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_LOOKS", LONG_S / 0.1)
    one, two = Host(lab, tmp_path / "1", controller()), Host(lab, tmp_path / "2", controller())
    async with two.agent():
        await listening(lab)
        async with one.agent():
            first = lab.order(new())
            await ended(lab, first)
            assert one.switch().done == []
        second = lab.order(new())
        await ended(lab, second)
    assert one.switch().done == []


class Watched(FakeLab):
    """Knows when something happened."""

    def __init__(self) -> None:
        super().__init__()
        self.told_at = self.released_at = 0.0

    async def report(self, results: Sequence[PowerResult]) -> None:
        await super().report(results)
        self.told_at = time.monotonic()

    async def release(self, name: str, owner: str) -> None:
        self.released_at = time.monotonic()
        await super().release(name, owner)


async def test_the_lease_is_kept_until_the_store_may_know_the_last_step(tmp_path: Path) -> None:
    lab = Watched()
    host = Host(lab, tmp_path, controller())
    host.settings = replace(host.settings, handover=timedelta(seconds=0.3))
    async with host.agent():
        await listening(lab)
        await ended(lab, lab.order(new()))

    assert lab.released_at - lab.told_at > 0.29
    assert await lab.acquire("rack4", "the next", seconds=1)


async def test_what_a_process_that_is_gone_began_is_finished_by_the_next(lab: FakeLab, host: Host) -> None:
    command = lab.order(new())
    for status in (ACCEPTED, OFF):
        await lab.report([_step(command, status)])
    async with host.agent():
        await ended(lab, command)

    assert host.switch().switched == ["on 1"]
    assert lab.statuses(command)[-2:] == [ON, DONE]


async def test_what_an_agent_of_another_name_works_on_is_left_to_it(lab: FakeLab, host: Host) -> None:
    command = lab.order(new())
    await lab.report([_step(command, ACCEPTED, agent="rack5")])
    async with host.agent():
        await listening(lab)
        await asyncio.sleep(0.3)
        assert host.switch().switched == []


@pytest.mark.parametrize(
    ("action", "reached", "switched"),
    [
        (PowerAction.OFF, ACCEPTED, []),
        (PowerAction.CYCLE, ACCEPTED, ["on 1"]),
        (PowerAction.CYCLE, OFF, ["on 1"]),
    ],
)
async def test_nobodys_claim_to_have_begun_makes_an_agent_of_another_name_switch_off(
    lab: FakeLab, host: Host, action: PowerAction, reached: PowerStatus, switched: list[str]
) -> None:
    """Whoever may speak for some rack could else drive all of them, past maintenance and running tasks."""
    command = lab.order(new(action=action))
    long_ago = now() - timedelta(days=1)
    await lab.report([_step(command, reached, agent="rack5").model_copy(update={"at": long_ago})])
    async with host.agent():
        await ended(lab, command)

    assert host.switch().switched == switched
    assert lab.statuses(command)[-1] is (DONE if reached is OFF else FAILED)


async def test_an_agent_that_loses_touch_switches_on_while_it_may_and_begins_nothing_new(
    lab: FakeLab, tmp_path: Path
) -> None:
    host = Host(lab, tmp_path, controller(), lease_s=SHORT_S)
    async with host.agent():
        await listening(lab)
        running, waiting = lab.order(new(delay_s=500)), lab.order(new("m2"))
        await until(lambda: OFF in lab.statuses(running))
        lab.is_away = True
        await until(lambda: host.switch().states["1"] is PortState.ON)
        await until(lambda: not lab.listeners, "the lease has run out")
        lab.is_away = False
        await ended(lab, running, waiting)

    assert lab.statuses(running) == CYCLE
    assert "lost touch" in lab.steps(running)[-1].text


async def test_a_port_left_off_by_a_crash_is_switched_on_when_nobody_answers_for_a_lease(
    lab: FakeLab, tmp_path: Path
) -> None:
    host = Host(lab, tmp_path, controller(), lease_s=SHORT_S)
    entry = _left_behind(host, lab.order(new()), OFF)
    lab.is_away = True
    async with host.agent():
        await until(lambda: host.switch().switched == ["on 1"])
        lab.is_away = False
        await ended(lab, entry.command)

    assert lab.statuses(entry.command)[-1] is DONE


async def test_a_port_left_off_is_somebody_elses_while_they_have_the_lease(
    lab: FakeLab, tmp_path: Path
) -> None:
    host = Host(lab, tmp_path, controller(), lease_s=SHORT_S)
    entry = _left_behind(host, lab.order(new()), OFF)
    await lab.acquire("rack4", "another", seconds=60)
    async with host.agent():
        await asyncio.sleep(SHORT_S * 1.2)
        assert host.switch().done == []

    assert not lab.has_ended(entry.command)


async def test_a_debt_of_a_process_that_is_gone_is_inherited(lab: FakeLab, tmp_path: Path) -> None:
    one, two = Host(lab, tmp_path / "1", controller()), Host(lab, tmp_path / "2", controller())
    one.switch().faults = {"on": [Unreachable("gone")] * 10_000}
    async with one.agent():
        await listening(lab)
        command = lab.order(new())
        await ended(lab, command)
    async with two.agent():
        await until(lambda: two.switch().switched == ["on 1"])

    assert lab.statuses(command) == [ACCEPTED, OFF, FAILED]


async def test_a_debt_is_written_off_once_the_machine_was_driven_by_another(
    lab: FakeLab, tmp_path: Path
) -> None:
    one, two = Host(lab, tmp_path / "1", controller()), Host(lab, tmp_path / "2", controller())
    entry = _left_behind(one, lab.order(new()), OFF)
    async with two.agent():
        await listening(lab)
        await ended(lab, lab.order(new("m1", PowerAction.OFF)))
    two.switch().done.clear()
    async with one.agent():
        await until(lambda: Journal(one.settings.journal).ended(entry.command.id) is not None)

    assert one.switch().switched == []
    assert two.switch().states["1"] is PortState.OFF


async def test_what_another_has_finished_is_not_touched_again(lab: FakeLab, tmp_path: Path) -> None:
    one, two = Host(lab, tmp_path / "1", controller()), Host(lab, tmp_path / "2", controller())
    entry = _left_behind(one, lab.order(new()), OFF)
    async with two.agent():
        await ended(lab, entry.command)
    assert lab.statuses(entry.command) == CYCLE
    async with one.agent():
        await until(lambda: Journal(one.settings.journal).ended(entry.command.id) is not None)

    assert one.switch().switched == []
    assert [status for status in lab.statuses(entry.command) if not status.is_pending] == [DONE]


async def test_a_process_that_stands_by_tells_what_it_has_done(lab: FakeLab, tmp_path: Path) -> None:
    host = Host(lab, tmp_path, controller(), lease_s=SHORT_S)
    entry = _left_behind(host, lab.order(new()), OFF, ON, DONE)
    await lab.acquire("rack4", "another", seconds=60)
    async with host.agent():
        await ended(lab, entry.command)

    assert lab.statuses(entry.command) == CYCLE


# --- the configuration -------------------------------------------------------------------------------------------------


async def test_a_new_configuration_opens_what_is_new_and_keeps_what_is_the_same(
    lab: FakeLab, tmp_path: Path
) -> None:
    same, gone = controller(), controller("old", {"m8": "8"})
    host = Host(lab, tmp_path, same, gone)
    async with host.agent():
        await until(lambda: bool(lab.reports("m1")) and bool(lab.reports("m8")))
        host.configure(same, controller("new", {"m9": "9"}))
        await until(lambda: bool(lab.reports("m9")))
        await until(lambda: lab.reports("m8")[-1].state is PowerCycleState.NOT_AVAILABLE)
        command = lab.order(new("m9"))
        await ended(lab, command)
        assert host.switch().opened == 1
        assert host.switch("old").closed == 1

    assert host.switch("new").switched == ["off 9", "on 9"]


async def test_a_removed_controller_ends_its_command_first(lab: FakeLab, host: Host) -> None:
    host.switch().holds = {"off": asyncio.Event()}
    async with host.agent():
        await listening(lab)
        running = lab.order(new())
        await until(lambda: host.switch().switched == ["off 1"])
        waiting = lab.order(new("m2"))
        host.configure()
        await ended(lab, waiting)
        assert host.switch().closed == 0
        host.switch().holds["off"].set()
        await ended(lab, running)
        await until(lambda: host.switch().closed == 1)

    assert lab.statuses(running) == CYCLE
    assert lab.statuses(waiting) == [PowerStatus.REFUSED]


async def test_a_changed_controller_takes_its_waiting_commands_along(lab: FakeLab, host: Host) -> None:
    host.switch().holds = {"off": asyncio.Event()}
    async with host.agent():
        await listening(lab)
        running = lab.order(new())
        await until(lambda: host.switch().switched == ["off 1"])
        waiting = lab.order(new("m2"))
        host.configure(controller(off_for_s=0.02))
        await until(lambda: host.switch().opened == 2)
        host.switch().holds["off"].set()
        await ended(lab, running, waiting)

    assert host.switch().most_busy == 1
    assert host.switch().switched == ["off 1", "on 1", "off 2", "on 2"]


async def test_a_bad_configuration_changes_nothing_until_it_is_mended(lab: FakeLab, host: Host) -> None:
    async with host.agent():
        await listening(lab)
        host.is_bad = True
        host.configure(controller("new", {"m9": "9"}))
        await until(lambda: host.configuration._seen is not None)
        command = lab.order(new())
        await ended(lab, command)
        host.is_bad = False
        host.file.touch()
        host.configuration.reload.set()
        await until(lambda: bool(lab.reports("m9")))


# --- the host ----------------------------------------------------------------------------------------------------------


async def test_a_controller_that_the_direct_mode_drives_is_waited_for(lab: FakeLab, host: Host) -> None:
    async with host.agent():
        await listening(lab)
        await until(lambda: bool(lab.reports("m1")))
        async with Locks(host.settings.locks).hold("fake/rack4", patience_s=5):
            waiting, expiring = lab.order(new()), lab.order(new("m2", expires_in_s=0.01))
            await asyncio.sleep(0.1)
            assert host.switch().switched == []
        await ended(lab, waiting, expiring)

    assert lab.statuses(waiting) == CYCLE
    assert lab.statuses(expiring) == [PowerStatus.EXPIRED]


async def test_a_journal_that_cannot_be_written_refuses_and_the_agent_lives(lab: FakeLab, host: Host) -> None:
    host.settings.journal.write_text("in the way")
    async with host.agent():
        await listening(lab)
        command = lab.order(new())
        await ended(lab, command)

    assert lab.statuses(command) == [PowerStatus.REFUSED]
    assert host.switch().switched == []


def _step(command: PowerCommand, status: PowerStatus, agent: str = "rack4") -> PowerStep:
    return PowerStep(
        command_id=command.id, machine_id=command.machine_id, status=status, at=now(), agent=agent
    )
