"""Power on the live page: a click, a confirmation, and every step to be seen. The test is the agent."""

from __future__ import annotations

import re
from itertools import count
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from pipeline.clock import SystemClock
from schemas.wire import format_time
from tests.e2e.browser import Complaints
from tests.e2e.pages import SOON, cell, row, search
from tests.e2e.processes import Lab
from tests.e2e.reports import android

pytestmark = pytest.mark.e2e

RESULTS = "/api/v1/power/results"
REFUSED = "Failed to load resource: the server responded with a status of 409 (Conflict)"


CLOCK = SystemClock()


class Agent:
    """Has a machine's power, and does as the test says."""

    def __init__(self, lab: Lab, machine_id: str) -> None:
        self._lab = lab
        self.machine_id = machine_id

    def tell(self, status: str, text: str = "") -> None:
        """How far the machine's command is."""
        record = self._lab.ask("GET", f"/api/v1/machines/{self.machine_id}/power")["record"]
        step = {"type": "step", "command_id": record["command"]["id"], "status": status, "text": text}
        self._post(step)

    def find_controller(self, state: str = "available", text: str = "") -> None:
        """Whether the controller answers."""
        self._post(
            {"type": "report", "state": state, "controller": "edgeswitch/s1", "port": "7", "text": text}
        )

    def _post(self, result: dict[str, Any]) -> None:
        said = {"machine_id": self.machine_id, "agent": "rack1", "at": format_time(CLOCK.now()), **result}
        self._lab.ask("POST", RESULTS, [said])


numbers = count(1)


@pytest.fixture
def agent(lab: Lab, live: Page) -> Agent:
    """Of a machine that is on the page, and whose power can be cycled."""
    agent = Agent(lab, f"powered-{next(numbers)}")
    lab.report(android(agent.machine_id))
    search(live, agent.machine_id)
    expect(row(live, agent.machine_id)).to_be_visible(timeout=SOON)
    agent.find_controller()
    expect(button(live, agent)).to_be_visible(timeout=SOON)
    return agent


def button(page: Page, agent: Agent) -> Locator:
    return page.get_by_role("button", name=f"Cycle power of {agent.machine_id}")


def power(page: Page) -> Locator:
    return page.locator("machine-power")


def test_a_click_and_a_confirmation_cycle_the_power_and_each_step_shows(agent: Agent, live: Page) -> None:
    in_table = cell(live, agent.machine_id, "power")
    status = power(live).get_by_role("status")
    button(live, agent).click()
    power(live).get_by_label("Why?").fill("stuck in fastboot")
    live.keyboard.press("Enter")

    expect(status).to_have_text("Power cycle: queued", timeout=SOON)
    expect(in_table).to_have_text("queued")
    expect(in_table.locator(".spinner")).to_be_visible()
    expect(power(live).get_by_role("button", name="Cycle…")).to_be_disabled()
    for step in ("accepted", "off", "on"):
        agent.tell(step)
        expect(status).to_have_text(f"Power cycle: {step}", timeout=SOON)
        expect(in_table).to_have_text(step)
    expect(power(live).get_by_role("button", name="Cancel command")).to_be_hidden()
    agent.tell("done", "port 7 was off for 5 s")

    expect(status).to_have_text("Power cycle done: port 7 was off for 5 s", timeout=SOON)
    expect(in_table.locator(".spinner")).to_have_count(0)
    expect(button(live, agent)).to_be_visible()
    expect(live.locator("toast-stack")).to_contain_text(
        f"{agent.machine_id}: power cycle done.", timeout=SOON
    )
    line = power(live).locator(".commands li")
    expect(line.locator(".steps")).to_have_text(
        re.compile("queued .+ → accepted .+ → off .+ → on .+ → done"), timeout=SOON
    )
    expect(line).to_contain_text("stuck in fastboot")
    expect(line).to_contain_text("local → rack1")
    expect(power(live)).to_contain_text("edgeswitch/s1")
    expect(live.locator(".history")).to_contain_text("stuck in fastboot", timeout=SOON)


def test_a_cycle_that_failed_says_why(agent: Agent, live: Page) -> None:
    button(live, agent).click()
    power(live).get_by_role("button", name="Cycle power").click()
    expect(cell(live, agent.machine_id, "power")).to_have_text("queued", timeout=SOON)
    agent.tell("failed", "port 7 is still on")

    alert = live.locator("toast-stack").get_by_role("alert")
    expect(alert).to_have_text(f"{agent.machine_id}: power cycle failed: port 7 is still on", timeout=SOON)
    expect(power(live).get_by_role("status")).to_have_text("Power cycle failed: port 7 is still on")
    expect(
        cell(live, agent.machine_id, "power").get_by_role("img", name="Power cycle failed")
    ).to_be_visible()
    cell(live, agent.machine_id, "power").hover()
    expect(cell(live, agent.machine_id, "power")).to_have_attribute("title", re.compile("port 7 is still on"))


def test_what_is_refused_can_be_forced_with_the_reason_in_sight(
    lab: Lab, agent: Agent, live: Page, complaints: Complaints
) -> None:
    lab.report(android(agent.machine_id, busy=True))
    expect(cell(live, agent.machine_id, "state")).to_contain_text("busy", timeout=SOON)
    button(live, agent).click()
    live.keyboard.press("Enter")

    expect(power(live)).to_contain_text(f"{agent.machine_id} runs a task; to end it that way, use force.")
    expect(power(live).get_by_role("button", name="Cancel", exact=True)).to_be_focused()
    power(live).get_by_role("button", name="Force: cycle power").click()

    expect(power(live).get_by_role("status")).to_have_text("Power cycle: queued", timeout=SOON)
    assert complaints.texts == [REFUSED]
    complaints.texts.clear()


def test_a_command_that_waits_can_be_withdrawn_with_the_keyboard(lab: Lab, agent: Agent, live: Page) -> None:
    row(live, agent.machine_id).click()
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
    pending = "/api/v1/power/commands?state=pending&machine=" + agent.machine_id
    assert lab.ask("GET", pending)["commands"] == []


def test_a_controller_that_does_not_answer_says_why(agent: Agent, live: Page) -> None:
    agent.find_controller("in_error", "s1: connection refused")
    in_table = cell(live, agent.machine_id, "power")
    expect(in_table.get_by_role("img", name="Its controller does not answer")).to_be_visible(timeout=SOON)
    in_table.hover()
    expect(in_table).to_have_attribute("title", re.compile("s1: connection refused"))
    row(live, agent.machine_id).click()
    expect(power(live).get_by_role("status")).to_contain_text("The controller does not answer")
    expect(power(live)).to_contain_text("s1: connection refused")


def test_a_machine_without_a_controller_has_no_buttons(lab: Lab, live: Page) -> None:
    lab.report(android("unwired"))
    search(live, "unwired")
    row(live, "unwired").click(timeout=SOON)
    expect(live.get_by_role("complementary").get_by_role("heading", name="unwired")).to_be_visible()
    expect(cell(live, "unwired", "power")).to_be_empty()
    expect(power(live)).to_be_hidden()
