"""A controller leaves the configuration, or changes there, while a port of it is owed power: the port comes on all the same."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumers.powercycle_agent.drivers.errors import Unreachable
from consumers.powercycle_agent.drivers.protocol import PortState
from consumers.powercycle_agent.journal import Entry, Intent, Journal
from consumers.powercycle_agent.locks import Locks
from pipeline import metrics
from pipeline.clock import SystemClock
from schemas.description import PowerCycleState
from schemas.power import PowerAction, PowerCommand, PowerMoment, PowerRecord, PowerStatus
from tests.unit.consumers.powercycle_agent.fake_lab import FakeLab, Host, ended, listening, new, until
from tests.unit.consumers.powercycle_agent.fake_power import Switch, controller

pytestmark = pytest.mark.slow

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def is_on(switch: Switch, port: str) -> bool:
    return switch.states.get(port) is PortState.ON


def owed() -> float:
    return metrics.POWER_PORTS_OWED._value.get()  # type: ignore[no-any-return]  # the library has no types here


async def left_off(lab: FakeLab, switch: Switch) -> PowerCommand:
    """A cycle that has ended with the port off, because it cannot be switched on."""
    switch.faults = {"on": [Unreachable("gone")] * 10_000}
    command = lab.order(new())
    await ended(lab, command)
    assert lab.statuses(command)[-1] is PowerStatus.FAILED
    return command


def left_behind(
    host: Host, command: PowerCommand, *reached: PowerStatus, controller: str = "fake/rack4", port: str = "1"
) -> Entry:
    """What a process that died left in the journal."""
    intent = Intent(command=command, agent="rack4", controller=controller, port=port)
    accepted = PowerMoment(status=PowerStatus.ACCEPTED, at=LONG_AGO)
    entry = Journal(host.settings.journal).begin(intent, accepted)
    for status in reached:
        entry.record(PowerMoment(status=status, at=LONG_AGO))
    entry.release()
    return entry


# --- while the agent runs ----------------------------------------------------------------------------------------------


async def test_a_removed_controller_pays_its_debts_before_it_goes(lab: FakeLab, host: Host) -> None:
    async with host.agent():
        await listening(lab)
        await left_off(lab, host.switch())
        with capture_logs() as logged:
            host.configure()
            why = "no longer in the configuration; port 1 of m1 may be off and cannot be switched on: gone"
            await until(lambda: lab.reports("m2")[-1].text == why)
        assert [each["controller"] for each in logged if each["event"] == "former_controller_owes"] == [
            "fake/rack4"
        ]
        await until(lambda: owed() == 1)
        refused = lab.order(new("m2"))
        host.switch().faults = {}
        await until(lambda: is_on(host.switch(), "1"))
        await until(lambda: lab.reports("m2")[-1].text == "no longer in the configuration")
        await until(lambda: host.switch().closed == 1 and owed() == 0)

    assert lab.reports("m2")[-1].state is PowerCycleState.NOT_AVAILABLE
    assert lab.statuses(refused) == []
    assert "off 2" not in host.switch().switched
    assert Journal(host.settings.journal).adopt(now=SystemClock().now()) == []


async def test_what_is_under_way_at_a_removed_controller_may_fail_and_is_paid_all_the_same(
    lab: FakeLab, host: Host
) -> None:
    host.switch().holds = {"off": asyncio.Event()}
    host.switch().faults = {"on": [Unreachable("gone")] * 10_000}
    async with host.agent():
        await listening(lab)
        command = lab.order(new())
        await until(lambda: host.switch().switched == ["off 1"])
        host.configure()
        await until(lambda: not host.configuration.inventory.controllers)
        host.switch().holds["off"].set()
        await ended(lab, command)
        host.switch().faults = {}
        await until(lambda: is_on(host.switch(), "1"))


async def test_a_controller_that_was_changed_pays_with_the_settings_it_had(
    lab: FakeLab, tmp_path: Path
) -> None:
    host = Host(lab, tmp_path, controller(address="old"))
    async with host.agent():
        await listening(lab)
        await left_off(lab, host.switch("old"))
        host.switch("old").faults = {}
        host.configure(controller(address="new"))
        await until(lambda: is_on(host.switch("old"), "1"))
        await until(lambda: host.switch("old").closed == 1)
        await ended(lab, lab.order(new("m2")))

    assert host.switch("new").switched == ["off 2", "on 2"]


async def test_where_those_do_not_work_any_more_it_pays_with_the_new_ones(
    lab: FakeLab, tmp_path: Path
) -> None:
    """The address was mended: that is why the configuration has changed."""
    host = Host(lab, tmp_path, controller(address="old"))
    async with host.agent():
        await listening(lab)
        await left_off(lab, host.switch("old"))
        host.configure(controller(address="new"))
        await until(lambda: is_on(host.switch("new"), "1"))
        await until(lambda: host.switch("old").closed == 1)


async def test_a_renamed_controller_pays_under_its_new_name(lab: FakeLab, tmp_path: Path) -> None:
    host = Host(lab, tmp_path, controller("a", address="10.0.0.1"))
    switch = host.switch("10.0.0.1")
    async with host.agent():
        await listening(lab)
        await left_off(lab, switch)
        host.configure(controller("b", {"m9": "9"}, address="10.0.0.1"))
        await until(lambda: bool(lab.reports("m9")) and "port 1 of m1" in lab.reports("m9")[-1].text)
        assert lab.reports("m9")[-1].controller == "fake/b"
        switch.faults = {}
        await until(lambda: is_on(switch, "1"))

    assert switch.most_busy == 1


async def test_a_renamed_controller_is_not_driven_under_two_names_at_once(
    lab: FakeLab, tmp_path: Path
) -> None:
    host = Host(lab, tmp_path, controller("a", address="10.0.0.1"))
    switch = host.switch("10.0.0.1")
    switch.holds = {"off": asyncio.Event()}
    async with host.agent():
        await listening(lab)
        first = lab.order(new())
        await until(lambda: switch.switched == ["off 1"])
        host.configure(controller("b", address="10.0.0.1"))
        await until(lambda: switch.opened == 2)
        second = lab.order(new("m2"))
        switch.holds["off"].set()
        await ended(lab, first, second)

    assert switch.most_busy == 1
    assert switch.switched == ["off 1", "on 1", "off 2", "on 2"]


async def test_a_command_that_waits_for_a_controller_which_changes_is_begun_by_its_successor(
    lab: FakeLab, host: Host
) -> None:
    async with host.agent():
        await listening(lab)
        await until(lambda: bool(lab.reports("m1")))
        async with Locks(host.settings.locks).hold("fake/rack4", patience_s=5):
            command = lab.order(new())
            host.configure(controller(ports={"m1": "7"}))
            await until(lambda: host.switch().opened == 2)
        await ended(lab, command)

    assert host.switch().switched == ["off 7", "on 7"]


async def test_a_machine_that_moved_leaves_its_old_port_owed(lab: FakeLab, host: Host) -> None:
    async with host.agent():
        await listening(lab)
        await left_off(lab, host.switch())
        host.configure(controller(ports={"m1": "4"}))
        await until(lambda: host.switch().opened == 2)
        host.switch().faults = {}
        await until(lambda: is_on(host.switch(), "1"))

    assert "4" not in host.switch().states


# --- after a restart ---------------------------------------------------------------------------------------------------


async def test_a_controller_that_was_renamed_meanwhile_pays_what_the_journal_says(
    lab: FakeLab, tmp_path: Path
) -> None:
    host = Host(lab, tmp_path, controller("new-name"))
    entry = left_behind(host, lab.order(new()), PowerStatus.OFF, controller="fake/old-name")
    async with host.agent():
        await ended(lab, entry.command)

    assert host.switch("new-name").switched == ["on 1"]
    assert lab.statuses(entry.command)[-1] is PowerStatus.DONE


@pytest.mark.parametrize("instead", [controller("new", {"m1": "2"}), controller("new", {"m3": "1"})])
async def test_another_port_or_machine_makes_it_no_renamed_one(
    lab: FakeLab, tmp_path: Path, instead: Any
) -> None:
    host = Host(lab, tmp_path, instead)
    entry = left_behind(host, lab.order(new()), PowerStatus.OFF, controller="fake/old")
    with capture_logs() as logged:
        async with host.agent():
            await until(lambda: any(each["event"] == "port_without_controller" for each in logged))
            await listening(lab)

    assert host.switch("new").switched == []
    (said,) = (each["note"] for each in logged if each["event"] == "port_without_controller")
    assert said.startswith("port 1 of m1 may be off, and fake/old is not in the configuration: put that back")
    assert str(entry.path) in said


async def test_a_port_without_a_controller_is_written_off_when_its_file_is_removed(
    lab: FakeLab, tmp_path: Path
) -> None:
    host = Host(lab, tmp_path, controller("another", {"m7": "7"}))
    entry = left_behind(host, lab.order(new()), PowerStatus.OFF)
    async with host.agent():
        await until(lambda: owed() == 1)
        entry.path.unlink()
        await until(lambda: owed() == 0)


async def test_a_newer_command_of_a_machine_that_moved_pays_nothing_for_its_old_port(
    lab: FakeLab, tmp_path: Path
) -> None:
    host = Host(lab, tmp_path, controller(ports={"m1": "4"}))
    entry = left_behind(host, new(), PowerStatus.OFF, port="3")
    later = new()
    done = PowerMoment(status=PowerStatus.DONE, at=LONG_AGO)
    lab.records[later.id] = PowerRecord(command=later, status=PowerStatus.DONE, steps=[done], agent="rack4")
    async with host.agent():
        await ended(lab, entry.command)

    assert host.switch().switched == ["on 3"]


async def test_a_newer_command_of_who_has_the_port_now_pays_for_it(lab: FakeLab, tmp_path: Path) -> None:
    host = Host(lab, tmp_path, controller(ports={"m1": "4", "m5": "3"}))
    entry = left_behind(host, new(), PowerStatus.OFF, port="3")
    later = new("m5", PowerAction.OFF)
    done = PowerMoment(status=PowerStatus.DONE, at=LONG_AGO)
    lab.records[later.id] = PowerRecord(command=later, status=PowerStatus.DONE, steps=[done], agent="rack4")
    async with host.agent():
        await ended(lab, entry.command)

    assert host.switch().switched == []
    assert lab.statuses(entry.command)[-1] is PowerStatus.FAILED


async def test_what_was_begun_for_a_machine_that_moved_does_not_switch_off_who_hangs_there_now(
    lab: FakeLab, tmp_path: Path
) -> None:
    host = Host(lab, tmp_path, controller(ports={"m1": "4", "m5": "3"}))
    entry = left_behind(host, lab.order(new()), port="3")
    async with host.agent():
        await ended(lab, entry.command)

    assert host.switch().switched == ["on 3"]
    assert lab.statuses(entry.command)[-1] is PowerStatus.FAILED
