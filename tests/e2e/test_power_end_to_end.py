"""Power, from the page to the port and back: through every process, a browser and devices that speak their real protocols.

Where a test needs to see each step by itself, it is the agent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count, groupby
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from consumers.powercycle_agent.drivers.protocol import PortState
from consumers.powercycle_agent.soft_reboot import BOOT_ID, REBOOT
from tests.e2e.browser import Complaints
from tests.e2e.pages import SILENCE, SOON, cell, row, search
from tests.e2e.processes import IMPATIENT_PREFIX, Lab, eventually
from tests.e2e.puppet import Puppet
from tests.e2e.rack import BOARDS, NEXT_ON_SWITCH, ON_STRIP, ON_SWITCH, REBOOTABLE, RELAYS, Rack
from tests.e2e.reports import android, report
from tests.power_devices.device import Hold, PowerDevice
from tests.servers.kinds import TestServer
from tests.servers.postgres import new_database

pytestmark = pytest.mark.e2e

LABKEEPER = "producers.labkeeper"
CYCLE = {"action": "cycle"}
STEPS = ["queued", "accepted", "off", "on"]
LOGIN = ["enable", "terminal length 0", "show poe status all"]
SWITCH_IS_TOLD = [
    *("configure", "interface 0/7", "poe opmode shutdown", "exit", "exit"),
    *("show poe port 0/7", "show poe status 0/7"),
    *("configure", "interface 0/7", "poe opmode auto", "exit", "exit"),
    *("show poe port 0/7", "show poe port 0/7"),
]
"""The last one is the agent's own look, after the driver's."""
PROBE = ["cat /proc/power/active_pwr1"]
STRIP_IS_TOLD = [
    *("echo 0 > /proc/power/relay2", "cat /proc/power/relay2"),
    *("echo 1 > /proc/power/relay2", "cat /proc/power/relay2", "cat /proc/power/relay2"),
]
REMEMBER_CELL = """id => {
  const remembered = [];
  const look = () => {
    const cell = document.querySelector(`tr[id='machine-${id}'] .column-power`);
    const now = [cell.textContent, cell.querySelector(".spinner") !== null];
    if (JSON.stringify(now) !== JSON.stringify(remembered.at(-1))) remembered.push(now);
  };
  look();
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
  window.remembered = remembered;
}"""
"""Keep all that a machine's cell for power ever shows: its text, and whether it turns."""
REFUSED = "Failed to load resource: the server responded with a status of 409 (Conflict)"


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    rack = Rack(tmp_path_factory.mktemp("rack"))
    with rack.running():
        yield rack


@pytest.fixture(scope="module")
def lab(postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory, rack: Rack) -> Iterator[Lab]:
    """A lab with an agent that drives the rack, whose host keys an operator has looked at."""
    with new_database(postgres_server) as database_url:
        lab = Lab(database_url, tmp_path_factory.mktemp("logs"), environment=rack.environment)
        with lab.running():
            prints = [f"--fingerprint={each}" for each in rack.fingerprints]
            learnt = lab.labkeeper("power", "trust", str(rack.config), *prints)
            assert learnt.count(": learnt: ssh-ed25519 ") == 3
            start_agent(lab, rack)
            wired = {ON_SWITCH, NEXT_ON_SWITCH, ON_STRIP, REBOOTABLE, *rack.hall}
            eventually(lambda: _outlets(lab) == wired, "the agent has reported its machines")
            yield lab


def start_agent(lab: Lab, rack: Rack) -> None:
    options = ("--name", "rack4", "--config", str(rack.config), "--probe-every", "3600")
    lab.start(LABKEEPER, "powercycle-agent", *options)


def _outlets(lab: Lab) -> set[str]:
    return {each["machine_id"] for each in lab.ask("GET", "/api/v1/power/outlets")["outlets"]}


numbers = count(1)


@pytest.fixture
def puppet(lab: Lab, live: Page) -> Puppet:
    """The agent of a machine that is on the page, and whose power can be cycled."""
    puppet = Puppet(lab, f"powered-{next(numbers)}")
    lab.report(android(puppet.machine_id))
    search(live, puppet.machine_id)
    expect(row(live, puppet.machine_id)).to_be_visible(timeout=SOON)
    puppet.find_controller()
    expect(button(live, puppet.machine_id)).to_be_visible(timeout=SOON)
    return puppet


def button(page: Page, machine_id: str) -> Locator:
    return page.get_by_role("button", name=f"Cycle power of {machine_id}")


def power(page: Page) -> Locator:
    return page.locator("machine-power")


# --- the whole way ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine_id", "label", "port", "told"),
    [
        (ON_SWITCH, "switch", "7", [*LOGIN, *SWITCH_IS_TOLD]),
        (ON_STRIP, "strip", "2", [*PROBE, *STRIP_IS_TOLD]),
    ],
    ids=["edgeswitch", "mpower"],
)
def test_a_click_switches_the_port_off_and_on_and_the_spinner_ends(
    machine_id: str, label: str, port: str, told: Sequence[str], lab: Lab, rack: Rack, live: Page
) -> None:
    device: PowerDevice = getattr(rack, label)
    lab.report(android(machine_id))
    search(live, machine_id)
    expect(button(live, machine_id)).to_be_visible(timeout=SOON)
    live.evaluate(REMEMBER_CELL, machine_id)
    device.hold = Hold()
    button(live, machine_id).click()
    power(live).get_by_role("button", name="Cycle power").click()
    expect(cell(live, machine_id, "power")).to_have_text("off")
    device.hold.is_over = True

    expect(power(live).get_by_role("status")).to_have_text("Power cycle done", timeout=SOON)
    assert device.commands == told
    assert _done(device) == [(port, PortState.OFF), (port, PortState.ON)]
    expect(button(live, machine_id)).to_be_visible()
    before, *between, after = live.evaluate("remembered")
    assert before == after == ["Cycle", False]
    assert ["off", True] in between
    assert between == [[step, True] for step in STEPS if [step, True] in between]
    line = power(live).locator(".commands li")
    expect(line.locator(".steps")).to_have_text(
        re.compile("queued .+ → accepted .+ → off .+ → on .+ → done"), timeout=SOON
    )
    expect(line).to_contain_text("local → rack4")
    expect(power(live)).to_contain_text(f"rack4-{label}1")


def test_a_machine_that_reboots_when_asked_keeps_its_power(lab: Lab, rack: Rack, live: Page) -> None:
    boot_id = rack.machine.boot_id
    lab.report(android(REBOOTABLE))
    search(live, REBOOTABLE)
    button(live, REBOOTABLE).click(timeout=SOON)
    power(live).get_by_role("button", name="Cycle power").click()

    expect(power(live).get_by_role("status")).to_have_text(
        "Power cycle done: rebooted over SSH; its port was not touched", timeout=SOON
    )
    assert rack.machine.boot_id != boot_id
    assert rack.machine.commands == [BOOT_ID, REBOOT, BOOT_ID]
    assert rack.spare.commands == LOGIN
    assert rack.spare.switched == []


def test_two_hundred_machines_behind_twenty_controllers_are_cycled_at_once(lab: Lab, rack: Rack) -> None:
    lab.report_all([report(machine_id) for machine_id in rack.hall])
    eventually(
        lambda: [each["PowerCycleState"] for each in _hall(lab)] == ["available"] * BOARDS * RELAYS,
        "all can be cycled",
    )
    for board in rack.boards:
        board.hold = Hold()
    with ThreadPoolExecutor(8) as clicks:
        list(clicks.map(lambda each: lab.ask("PUT", f"/api/v1/machines/{each}/power", CYCLE), rack.hall))
    eventually(lambda: all(_done(board) for board in rack.boards), "one port of each board is off")
    for board in rack.boards:
        assert board.hold is not None
        board.hold.is_over = True
    eventually(lambda: not _commands(lab, rack.hall, "&state=pending"), "all have ended")

    eventually(lambda: not any(each["PowerCycle"] for each in _hall(lab)), "the machines say so")
    of_hall = _commands(lab, rack.hall)
    assert sorted(record["command"]["machine_id"] for record in of_hall) == sorted(rack.hall)
    assert {record["status"] for record in of_hall} == {"done"}
    assert all([step["status"] for step in record["steps"]] == [*STEPS, "done"] for record in of_hall)
    for board in rack.boards:
        ports = [port for port, state in _done(board) if state is PortState.OFF]
        assert sorted(ports) == sorted(board.states)
        in_turn = [(port, state) for port in ports for state in (PortState.OFF, PortState.ON)]
        assert [done for done, _ in groupby(_done(board))] == in_turn, "what had to wait may be told twice"


def _commands(lab: Lab, machines: Sequence[str], query: str = "") -> Sequence[dict[str, Any]]:
    records = lab.ask("GET", f"/api/v1/power/commands?limit=1000{query}")["commands"]
    return [record for record in records if record["command"]["machine_id"] in machines]


def _done(device: PowerDevice) -> Sequence[tuple[str, PortState]]:
    return [(each.port, each.state) for each in device.switched]


def _hall(lab: Lab) -> Sequence[dict[str, Any]]:
    machines: Sequence[dict[str, Any]] = lab.ask("GET", "/api/v1/machines?limit=1000&q=hall-")["machines"]
    return machines


def test_an_agent_that_is_killed_while_a_port_is_off_leaves_it_to_the_next_one(
    lab: Lab, rack: Rack, live: Page
) -> None:
    lab.report(android(NEXT_ON_SWITCH))
    search(live, NEXT_ON_SWITCH)
    expect(button(live, NEXT_ON_SWITCH)).to_be_visible(timeout=SOON)
    told = len(rack.switch.commands)
    rack.switch.hold = Hold()
    lab.ask("PUT", f"/api/v1/machines/{NEXT_ON_SWITCH}/power", {**CYCLE, "delay_s": 3})
    expect(cell(live, NEXT_ON_SWITCH, "power")).to_have_text("off", timeout=SOON)
    lab.kill(LABKEEPER)
    assert _done(rack.switch)[-1] == ("8", PortState.OFF)
    rack.switch.hold.is_forgotten = True
    rack.switch.hold = None
    start_agent(lab, rack)

    row(live, NEXT_ON_SWITCH).click()
    expect(power(live).get_by_role("status")).to_have_text(
        "Power cycle done: interrupted, and carried on", timeout=SOON
    )
    assert [state for port, state in _done(rack.switch) if port == "8"] == [PortState.OFF, PortState.ON]
    switching = [each for each in rack.switch.commands[told:] if each.startswith(("interface", "poe"))]
    assert switching == ["interface 0/8", "poe opmode shutdown", "interface 0/8", "poe opmode auto"]


# --- step by step, with the test as the agent ------------------------------------------------------------------------


def test_a_click_and_a_confirmation_cycle_the_power_and_each_step_shows(puppet: Puppet, live: Page) -> None:
    in_table = cell(live, puppet.machine_id, "power")
    status = power(live).get_by_role("status")
    button(live, puppet.machine_id).click()
    power(live).get_by_label("Why?").fill("stuck in fastboot")
    live.keyboard.press("Enter")

    expect(status).to_have_text("Power cycle: queued", timeout=SOON)
    expect(in_table).to_have_text("queued")
    expect(in_table.locator(".spinner")).to_be_visible()
    expect(power(live).get_by_role("button", name="Cycle…")).to_be_disabled()
    for step in ("accepted", "off", "on"):
        puppet.tell(step)
        expect(status).to_have_text(f"Power cycle: {step}", timeout=SOON)
        expect(in_table).to_have_text(step)
    expect(power(live).get_by_role("button", name="Cancel command")).to_be_hidden()
    puppet.tell("done", "port 7 was off for 5 s")

    expect(status).to_have_text("Power cycle done: port 7 was off for 5 s", timeout=SOON)
    expect(in_table.locator(".spinner")).to_have_count(0)
    expect(button(live, puppet.machine_id)).to_be_visible()
    expect(live.locator("toast-stack")).to_contain_text(
        f"{puppet.machine_id}: power cycle done.", timeout=SOON
    )
    line = power(live).locator(".commands li")
    expect(line.locator(".steps")).to_have_text(
        re.compile("queued .+ → accepted .+ → off .+ → on .+ → done"), timeout=SOON
    )
    expect(line).to_contain_text("stuck in fastboot")
    expect(line).to_contain_text("local → rack1")
    expect(power(live)).to_contain_text("edgeswitch/s1")
    expect(live.locator(".history")).to_contain_text("stuck in fastboot", timeout=SOON)


def test_a_cycle_that_failed_says_why(puppet: Puppet, live: Page) -> None:
    button(live, puppet.machine_id).click()
    power(live).get_by_role("button", name="Cycle power").click()
    expect(cell(live, puppet.machine_id, "power")).to_have_text("queued", timeout=SOON)
    puppet.tell("failed", "port 7 is still on")

    alert = live.locator("toast-stack").get_by_role("alert")
    expect(alert).to_have_text(f"{puppet.machine_id}: power cycle failed: port 7 is still on", timeout=SOON)
    expect(power(live).get_by_role("status")).to_have_text("Power cycle failed: port 7 is still on")
    expect(
        cell(live, puppet.machine_id, "power").get_by_role("img", name="Power cycle failed")
    ).to_be_visible()
    cell(live, puppet.machine_id, "power").hover()
    expect(cell(live, puppet.machine_id, "power")).to_have_attribute(
        "title", re.compile("port 7 is still on")
    )


def test_what_is_refused_can_be_forced_with_the_reason_in_sight(
    lab: Lab, puppet: Puppet, live: Page, complaints: Complaints
) -> None:
    lab.report(android(puppet.machine_id, busy=True))
    expect(cell(live, puppet.machine_id, "state")).to_contain_text("busy", timeout=SOON)
    button(live, puppet.machine_id).click()
    live.keyboard.press("Enter")

    expect(power(live)).to_contain_text(f'{puppet.machine_id} runs a task; to end it that way, use "force" (')
    expect(power(live).get_by_role("button", name="Cancel", exact=True)).to_be_focused()
    power(live).get_by_role("button", name="Force: cycle power").click()

    expect(power(live).get_by_role("status")).to_have_text("Power cycle: queued", timeout=SOON)
    assert complaints.texts == [REFUSED]
    complaints.texts.clear()


def test_a_command_that_waits_can_be_withdrawn_with_the_keyboard(
    lab: Lab, puppet: Puppet, live: Page
) -> None:
    row(live, puppet.machine_id).click()
    power(live).get_by_role("button", name="Off…").focus()
    live.keyboard.press("Enter")
    expect(power(live)).to_contain_text("It stays off until somebody switches it on.")
    live.keyboard.press("Escape")
    expect(power(live).locator("form")).to_be_hidden()
    expect(live.get_by_role("complementary")).to_be_visible()
    power(live).get_by_role("button", name="Off…").focus()
    live.keyboard.press("Enter")
    live.keyboard.press("Enter")

    expect(power(live).get_by_role("button", name="Cancel command")).to_be_focused(timeout=SOON)
    live.keyboard.press("Enter")

    expect(power(live).get_by_role("status")).to_contain_text("Power off cancelled", timeout=SOON)
    expect(power(live).get_by_role("button", name="Cycle…")).to_be_enabled()
    pending = "/api/v1/power/commands?state=pending&machine=" + puppet.machine_id
    assert lab.ask("GET", pending)["commands"] == []


def test_a_machine_that_was_switched_off_says_so_until_it_is_on_again(lab: Lab, live: Page) -> None:
    puppet = Puppet(lab, f"{IMPATIENT_PREFIX}to-silence")
    lab.report(android(puppet.machine_id))
    puppet.find_controller()
    search(live, puppet.machine_id)
    said = cell(live, puppet.machine_id, "power").locator(".switched-off")
    for action, times in (("off", 1), ("on", 0)):
        lab.ask("PUT", f"/api/v1/machines/{puppet.machine_id}/power", {"action": action})
        puppet.tell("accepted")
        puppet.tell("done")
        expect(said).to_have_text(["off"] * times, timeout=SILENCE)


def test_a_controller_that_does_not_answer_says_why(puppet: Puppet, live: Page) -> None:
    puppet.find_controller("in_error", "s1: connection refused")
    in_table = cell(live, puppet.machine_id, "power")
    expect(in_table.get_by_role("img", name="Its controller does not answer")).to_be_visible(timeout=SOON)
    in_table.hover()
    expect(in_table).to_have_attribute("title", re.compile("s1: connection refused"))
    row(live, puppet.machine_id).click()
    expect(power(live).get_by_role("status")).to_contain_text("The controller does not answer")
    expect(power(live)).to_contain_text("s1: connection refused")


def test_a_machine_without_a_controller_has_no_buttons(lab: Lab, live: Page) -> None:
    lab.report(android("unwired"))
    search(live, "unwired")
    row(live, "unwired").click(timeout=SOON)
    expect(live.get_by_role("complementary").get_by_role("heading", name="unwired")).to_be_visible()
    expect(cell(live, "unwired", "power")).to_be_empty()
    expect(power(live)).to_be_hidden()
