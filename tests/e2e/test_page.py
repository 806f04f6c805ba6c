"""The live page, with everything behind it: machines report over HTTP, and a browser watches."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.browser import Complaints
from tests.e2e.pages import SILENCE, SOON, cell, open_page, row, search, shown_ids
from tests.e2e.processes import FACADE, IMPATIENT_PREFIX, Lab, eventually
from tests.e2e.puppet import Puppet, find_controllers
from tests.e2e.reports import Report, android, forced_quarantine, ios, report, standalone
from tests.servers.kinds import TestServer
from tests.servers.postgres import new_database

pytestmark = pytest.mark.e2e

SCREENSHOT_VARIABLE = "LABKEEPER_SCREENSHOT"
LARGEST_SCREENSHOT = 400 << 10

NEVER_RELOADED = "globalThis.openedOnce = true"

HOSTILE = (
    '<img src=x onerror="globalThis.hacked = 1"><script>globalThis.hacked = 1</script>\'"&amp; مرحبا \u202e🔥'
)


def furnish(lab: Lab) -> None:
    """A lab that looks like one."""
    phones = ["redfin", "oriole", "shiba", "panther", "sargo", "caiman", "starlte", "bluejay"]
    reports: list[Report] = []
    for shelf in range(1, 5):
        for place, phone in enumerate(phones, 1):
            machine_id = f"rack{shelf}-phone-{place:02d}"
            uptime = timedelta(hours=3 * shelf + place, minutes=7 * place)
            reports.append(
                android(
                    machine_id,
                    phone,
                    battery=100 - 7 * place - shelf,
                    degrees=24 + 0.6 * place,
                    uptime=uptime,
                    busy=(shelf + place) % 3 == 0,
                )
            )
        reports.append(ios(f"rack{shelf}-phone-09", "iPhone14,5", battery=90 - shelf))
        reports.append(standalone(f"rack{shelf}-host", busy=shelf == 2))
    lab.report_all(reports)
    lab.report(android("rack1-phone-03", "shiba", battery=12))
    lab.report(android("rack2-phone-05", "sargo", degrees=37.5))
    lab.report(forced_quarantine(standalone("rack3-host")))


def put(lab: Lab, machine_id: str, what: str, body: dict[str, str]) -> None:
    lab.ask("PUT", f"/api/v1/machines/{machine_id}/{what}", body)


def test_a_machine_appears_goes_missing_and_comes_back_without_a_reload(
    lab: Lab, live: Page, tmp_path: Path
) -> None:
    live.evaluate(NEVER_RELOADED)
    expect(live.get_by_role("heading", name="No machines yet")).to_be_visible()

    lab.report(android("rack1-phone-01", "redfin"))
    expect(cell(live, "rack1-phone-01", "state")).to_have_text("available", timeout=SOON)
    expect(cell(live, "rack1-phone-01", "device")).to_contain_text("Pixel 5")

    lab.report(report("rack1-phone-01"))
    expect(cell(live, "rack1-phone-01", "state")).to_have_text(
        'recoveringDevice ["redfin"] has gone missing', timeout=SOON
    )

    lab.report(android("rack1-phone-01", "redfin"))
    expect(cell(live, "rack1-phone-01", "state")).to_have_text("available", timeout=SOON)

    silent = f"{IMPATIENT_PREFIX}phone"
    lab.report(standalone(f"{IMPATIENT_PREFIX}host"))
    is_available_while_it_reports(lab, live, silent)
    expect(cell(live, silent, "state")).to_contain_text("downsilent for", timeout=SILENCE)
    is_available_while_it_reports(lab, live, silent)
    lab.ask("DELETE", f"/api/v1/machines/{silent}")
    expect(row(live, silent)).to_have_count(0, timeout=SOON)

    furnish(lab)
    expect(live.locator(".count")).to_have_text("41 machines", timeout=SOON)
    take_screenshot(lab, live, tmp_path)
    assert live.evaluate("globalThis.openedOnce") is True


def is_available_while_it_reports(lab: Lab, page: Page, machine_id: str) -> None:
    """On a busy computer it would be silent for too long before the page has shown its only report."""

    def is_shown() -> bool:
        lab.report(android(machine_id, "oriole"))
        return cell(page, machine_id, "state").all_text_contents() == ["available"]

    eventually(is_shown, f"{machine_id} is available")


def wire(lab: Lab) -> dict[str, Puppet]:
    """Give every machine of the furnished lab its power: a switch for each shelf's phones, and what the hosts have."""
    places = {f"{IMPATIENT_PREFIX}host": ("bench", "tasmota/bench", "1")}
    for shelf in range(1, 5):
        for place in range(1, 10):
            places[f"rack{shelf}-phone-{place:02d}"] = (
                f"rack{shelf}",
                f"edgeswitch/rack{shelf}-poe",
                f"{place}",
            )
        places[f"rack{shelf}-host"] = (f"rack{shelf}", f"ipmi/rack{shelf}-host", "0")
    puppets = {
        machine_id: Puppet(lab, machine_id, agent=agent, controller=controller, port=port)
        for machine_id, (agent, controller, port) in places.items()
    }
    find_controllers(lab, puppets.values())
    return puppets


def cycle(lab: Lab, puppet: Puppet, *steps: tuple[str, int], why: str) -> None:
    """Have its power cycled as far as these steps, each so many seconds after the order."""
    put(lab, puppet.machine_id, "power", {"action": "cycle", "why": why})
    for step, seconds in steps:
        puppet.tell(step, after=timedelta(seconds=seconds))


def take_screenshot(lab: Lab, page: Page, tmp_path: Path) -> None:
    for place in range(1, 9):
        put(lab, f"rack1-phone-{place:02d}", "attached-device", {"attached_device": "adb"})
    put(lab, "rack1-phone-05", "maintenance", {"reason": "waiting for a new USB hub"})
    put(lab, "rack1-phone-08", "note", {"message": "screen cracked, not for graphics tests"})
    put(lab, "rack2-host", "note", {"message": "kernel bisect until Friday, ask before reboot"})
    puppets = wire(lab)
    puppets["rack3-host"].find_controller("in_error", "BMC 10.0.3.20 did not answer within 20 s")
    expect(cell(page, "rack1-phone-05", "state")).to_contain_text("maintenance", timeout=SOON)
    expect(cell(page, "rack3-host", "state")).to_contain_text("quarantined", timeout=SOON)
    lost = "rack1-phone-07"
    expect(cell(page, lost, "power").get_by_role("button")).to_be_visible(timeout=SOON)
    cycle(lab, puppets[lost], ("accepted", 0), ("off", 1), ("on", 6), ("done", 6), why="stuck in fastboot")
    row(page, lost).click()
    drawer = page.get_by_role("complementary")
    expect(drawer.get_by_role("status")).to_have_text("Power cycle done", timeout=SOON)
    lab.report(report(lost))
    expect(cell(page, lost, "state")).to_contain_text("gone missing", timeout=SOON)
    silent = f"{IMPATIENT_PREFIX}host"
    cycle(lab, puppets[silent], ("accepted", 0), ("off", 0), why="silent")
    expect(cell(page, silent, "power")).to_have_text("off", timeout=SOON)
    expect(drawer.locator(".commands li")).to_contain_text("done", timeout=SOON)
    expect(drawer.locator(".history li")).not_to_have_count(0, timeout=SOON)
    path = Path(os.environ.get(SCREENSHOT_VARIABLE, tmp_path / "screenshot.png"))
    path.parent.mkdir(parents=True, exist_ok=True)
    page.mouse.move(0, 0)
    page.screenshot(path=path)
    assert path.stat().st_size < LARGEST_SCREENSHOT


def test_hostile_text_stays_text(lab: Lab, live: Page) -> None:
    lab.report(android("hostile-1", '"><b>bold</b>'))
    lab.report(android("hostile-2"))
    search(live, "hostile")
    expect(live.locator("tr.machine")).to_have_count(2, timeout=SOON)
    put(lab, "hostile-1", "note", {"message": HOSTILE})
    put(lab, "hostile-1", "maintenance", {"reason": HOSTILE})

    expect(cell(live, "hostile-1", "note").locator(".main")).to_have_text(HOSTILE, timeout=SOON)
    expect(cell(live, "hostile-1", "state")).to_contain_text(HOSTILE)
    row(live, "hostile-1").click()
    drawer = live.get_by_role("complementary")
    expect(drawer.locator(".note .message-text")).to_have_text(HOSTILE)
    expect(drawer.locator(".history")).to_contain_text(HOSTILE)

    assert live.locator("main :is(img, script, b)").count() == 0
    assert live.evaluate("globalThis.hacked") is None
    heights = live.locator("tr.machine").evaluate_all(
        "rows => rows.map((row) => row.getBoundingClientRect().height)"
    )
    assert set(heights) == {30}


def test_words_and_states_filter_and_the_address_keeps_them(lab: Lab, live: Page) -> None:
    lab.report_all([android("filter-1", "redfin"), android("filter-2", "oriole"), standalone("filter-3")])
    lab.report(android("filter-2", "oriole", battery=5))
    search(live, "filter")
    expect(live.locator("tr.machine")).to_have_count(3, timeout=SOON)
    expect(cell(live, "filter-2", "state")).to_contain_text("Battery low.", timeout=SOON)

    live.get_by_role("button", name=re.compile("recovering")).click()
    expect(live.locator("tr.machine")).to_have_count(1)
    live.get_by_role("button", name="State", exact=True).click()
    assert "search=filter" in live.url
    assert "state=recovering" in live.url
    assert "sort=state,machine" in live.url

    live.reload()
    expect(row(live, "filter-2")).to_be_visible(timeout=SOON)
    assert shown_ids(live) == ["filter-2"]
    expect(live.locator(".count")).to_contain_text("1 of")

    search(live, "filter nowhere")
    expect(live.get_by_role("heading", name="No machine matches")).to_be_visible()
    live.get_by_role("button", name="Clear filters").click()
    expect(row(live, "filter-1")).to_have_count(1)
    expect(live.get_by_role("searchbox")).to_have_value("")


def test_a_click_on_a_heading_sorts_and_a_second_one_turns_it_round(lab: Lab, live: Page) -> None:
    lab.report_all([android(f"sort-{number}", battery=number * 5 + 30) for number in (2, 10, 1)])
    search(live, "sort-")
    expect(live.locator("tr.machine")).to_have_count(3, timeout=SOON)
    assert shown_ids(live) == ["sort-1", "sort-2", "sort-10"]

    heading = live.get_by_role("columnheader", name="Battery")
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "ascending")
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "descending")
    assert shown_ids(live) == ["sort-10", "sort-2", "sort-1"]

    lab.report(android("sort-1", battery=99))
    expect(live.locator("tr.machine .column-machine").first).to_have_text("sort-1", timeout=SOON)


def test_the_keyboard_is_enough(lab: Lab, live: Page) -> None:
    lab.report_all([android(f"keys-{number}") for number in range(1, 4)])
    live.keyboard.press("/")
    live.keyboard.type("keys-")
    expect(live.locator("tr.machine")).to_have_count(3, timeout=SOON)

    grid = live.get_by_role("grid", name="Machines")
    grid.focus()
    live.keyboard.press("ArrowDown")
    live.keyboard.press("ArrowDown")
    expect(grid).to_have_attribute("aria-activedescendant", "machine-keys-2")
    live.keyboard.press("Enter")
    drawer = live.get_by_role("complementary")
    expect(drawer.get_by_role("heading", name="keys-2")).to_be_focused()
    assert "machine=keys-2" in live.url

    live.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    expect(grid).to_be_focused()
    live.keyboard.press("End")
    expect(grid).to_have_attribute("aria-activedescendant", "machine-keys-3")
    live.keyboard.press("Enter")
    expect(drawer.get_by_role("heading", name="keys-3")).to_be_focused()
    live.go_back()
    expect(drawer).to_be_hidden()

    wired = {"Machines": [{"MachineID": "keys-3", "PowerCycleState": "available"}]}
    lab.ask("POST", "/json/v1/powercycle/state/update", wired)
    expect(cell(live, "keys-3", "power").locator("button")).to_have_count(1, timeout=SOON)
    grid.focus()
    live.keyboard.press("c")
    expect(drawer.get_by_text("Cycle the power of keys-3?")).to_be_visible()


def test_an_operator_takes_a_machine_out_of_service_and_back(lab: Lab, live: Page) -> None:
    lab.report(forced_quarantine(android("act-1")))
    search(live, "act-1")
    row(live, "act-1").click(timeout=SOON)
    drawer = live.get_by_role("complementary")

    drawer.get_by_role("button", name="Clear quarantine").click()
    expect(cell(live, "act-1", "state")).to_have_text("available", timeout=SOON)

    drawer.get_by_role("button", name="Put into maintenance").click()
    drawer.get_by_label("Why?").fill("new cable")
    live.keyboard.press("Enter")
    expect(cell(live, "act-1", "state")).to_contain_text("maintenancenew cable", timeout=SOON)
    expect(drawer.locator(".history")).to_contain_text("new cable", timeout=SOON)
    drawer.get_by_role("button", name="End maintenance").click()
    expect(cell(live, "act-1", "state")).to_have_text("available", timeout=SOON)

    drawer.get_by_role("button", name="Edit note").click()
    drawer.get_by_label("Note").fill("handle with care")
    drawer.get_by_role("button", name="Save note").click()
    expect(cell(live, "act-1", "note")).to_contain_text("handle with care", timeout=SOON)

    drawer.get_by_label("Attached device").select_option("ios")
    expect(live.locator("toast-stack")).to_contain_text("act-1: attached device is iOS.", timeout=SOON)
    assert lab.ask("GET", "/api/v1/machines/act-1")["AttachedDevice"] == "ios"


def test_deleting_asks_first(lab: Lab, live: Page) -> None:
    lab.report(android("goner"))
    search(live, "goner")
    row(live, "goner").click(timeout=SOON)
    drawer = live.get_by_role("complementary")

    drawer.get_by_role("button", name="Delete…").click()
    drawer.get_by_role("button", name="Cancel").click()
    expect(row(live, "goner")).to_be_visible()

    drawer.get_by_role("button", name="Delete…").click()
    drawer.get_by_role("button", name="Delete", exact=True).click()
    expect(row(live, "goner")).to_have_count(0, timeout=SOON)
    expect(drawer).to_contain_text("not in the lab")


def test_what_the_server_refuses_is_told(lab: Lab, live: Page, complaints: Complaints) -> None:
    lab.report(android("refused"))
    search(live, "refused")
    row(live, "refused").click(timeout=SOON)
    drawer = live.get_by_role("complementary")
    lab.ask("DELETE", "/api/v1/machines/refused")
    expect(drawer).to_contain_text("not in the lab")
    live.route(
        "**/maintenance", lambda route: route.fulfill(status=503, json={"detail": "the store is away"})
    )
    lab.report(android("refused"))

    drawer.get_by_role("button", name="Put into maintenance").click(timeout=SOON)
    drawer.get_by_role("button", name="Put into maintenance", exact=True).click()

    expect(live.get_by_role("alert")).to_have_text("The store is away.")
    complaints.texts.remove(
        "Failed to load resource: the server responded with a status of 503 (Service Unavailable)"
    )


def test_the_page_catches_up_after_the_server_was_away(lab: Lab, live: Page, complaints: Complaints) -> None:
    lab.report_all([android("away-1"), android("away-2")])
    search(live, "away-")
    expect(live.locator("tr.machine")).to_have_count(2, timeout=SOON)
    live.evaluate(NEVER_RELOADED)

    lab.stop(FACADE)
    expect(live.locator("connection-status")).to_contain_text("Reconnecting", timeout=SOON)
    expect(live.locator("tr.machine")).to_have_count(2)
    lab.start(FACADE)
    lab.wait_until_ready()
    lab.report(android("away-3"))
    lab.ask("DELETE", "/api/v1/machines/away-1")

    expect(live.locator("connection-status")).to_have_text("Live", timeout=SILENCE)
    expect(live.locator("tr.machine .column-machine")).to_have_text(["away-2", "away-3"], timeout=SOON)
    assert live.evaluate("globalThis.openedOnce") is True
    complaints.texts[:] = [
        text for text in complaints.texts if not text.startswith("Failed to load resource")
    ]


def test_a_tab_that_nobody_looks_at_lets_go_of_the_stream(lab: Lab, page: Page) -> None:
    page.clock.install()
    open_page(page, lab.url)
    look = """(state) => {
        Object.defineProperty(document, 'visibilityState', {value: state, configurable: true});
        document.dispatchEvent(new Event('visibilitychange'));
    }"""

    page.evaluate(look, "hidden")
    page.clock.fast_forward(61_000)
    expect(page.locator("connection-status")).to_contain_text("Reconnecting")
    page.evaluate(look, "visible")
    expect(page.locator("connection-status")).to_have_text("Live", timeout=SOON)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_three_columns_that_matter(lab: Lab, chromium: Browser, scheme: str) -> None:
    lab.report(android("phone-view"))
    phone = chromium.new_context(
        viewport={"width": 390, "height": 844},
        color_scheme="dark" if scheme == "dark" else "light",
        has_touch=True,
    )
    page = open_page(phone.new_page(), f"{lab.url}/?search=phone-view")

    expect(row(page, "phone-view")).to_be_visible(timeout=SOON)
    assert page.get_by_role("columnheader").all_inner_texts() == ["Machine", "State", "Last seen"]
    badge = cell(page, "phone-view", "state").locator(".power-badge")
    expect(badge).to_be_hidden()  # nothing is said of its power
    wired = {"Machines": [{"MachineID": "phone-view", "PowerCycleState": "available"}]}
    lab.ask("POST", "/json/v1/powercycle/state/update", wired)
    lab.ask("PUT", "/api/v1/machines/phone-view/power", {"action": "cycle"})
    expect(badge).to_have_text("queued", timeout=SOON)
    expect(badge).to_be_visible()
    lab.ask("DELETE", "/api/v1/machines/phone-view/power")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    row(page, "phone-view").tap()
    assert page.get_by_role("complementary").bounding_box() == {"x": 0, "y": 0, "width": 390, "height": 844}
    phone.close()


def test_columns_can_be_chosen_and_the_address_keeps_them(lab: Lab, live: Page) -> None:
    live.get_by_role("button", name="Columns").click()
    live.get_by_role("checkbox", name="Device").uncheck()
    live.keyboard.press("Escape")

    expect(live.get_by_role("columnheader", name="Device")).to_have_count(0)
    live.reload()
    expect(live.get_by_role("columnheader", name="Machine")).to_be_visible()
    expect(live.get_by_role("columnheader", name="Device")).to_have_count(0)


def test_the_theme_is_remembered(lab: Lab, live: Page) -> None:
    live.get_by_role("button", name="Theme: system").click()
    live.get_by_role("button", name="Theme: light").click()
    live.reload()

    expect(live.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert live.evaluate("getComputedStyle(document.body).colorScheme") == "dark"


@pytest.fixture(scope="module")
def guarded(
    postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Lab, str]]:
    """A lab that asks for tokens, and a viewer's."""
    folder = tmp_path_factory.mktemp("guarded")
    tokens = folder / "tokens"
    with new_database(postgres_server) as database_url:
        lab = Lab(database_url, folder, facade_options=("--tokens", str(tokens)))
        operator, viewer = (
            lab.labkeeper(
                "token", "new", "--role", role, "--name", f"{role}@example.org", "--file", str(tokens)
            )
            for role in ("operator", "viewer")
        )
        lab.token = operator.strip()
        with lab.running():
            yield lab, viewer.strip()


def test_a_lab_with_tokens_asks_for_one_and_a_viewer_cannot_act(
    guarded: tuple[Lab, str], context: BrowserContext
) -> None:
    lab, token = guarded
    page = context.new_page()
    page.goto(lab.url)

    page.get_by_label("API token").fill("lk_wrong")
    page.keyboard.press("Enter")
    expect(page.locator("login-form").get_by_role("alert")).to_contain_text("Nobody has this token")
    page.get_by_label("API token").fill(token)
    page.keyboard.press("Enter")

    expect(page.locator("connection-status")).to_have_text("Live", timeout=SOON)
    expect(page.locator("#who")).to_have_text("viewer@example.org")
    page.reload()
    expect(page.locator("connection-status")).to_have_text("Live", timeout=SOON)
    expect(page.locator("login-form")).to_be_hidden()

    lab.report(android("looked-at"))
    expect(row(page, "looked-at")).to_be_visible(timeout=SOON)
    wired = {"Machines": [{"MachineID": "looked-at", "PowerCycleState": "available"}]}
    lab.ask("POST", "/json/v1/powercycle/state/update", wired)
    expect(cell(page, "looked-at", "power").locator("button")).to_have_count(1, timeout=SOON)
    expect(cell(page, "looked-at", "power").locator("button")).to_be_hidden()
    row(page, "looked-at").click()
    drawer = page.get_by_role("complementary")
    expect(drawer.get_by_role("button", name="Cycle…")).to_be_disabled()
    expect(drawer).to_contain_text("You may look, but not change anything.")
    assert drawer.locator(":is(button:not(.icon-button, .plain), select):enabled").count() == 0


@pytest.fixture(scope="module")
def large(postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab of five thousand."""
    with new_database(postgres_server) as database_url:
        lab = Lab(database_url, tmp_path_factory.mktemp("large"))
        with lab.running():
            lab.report_all([android(f"large-{number:04d}", busy=number % 3 == 0) for number in range(5000)])
            yield lab


def test_five_thousand_machines_are_quickly_there_and_few_of_them_in_the_page(large: Lab, page: Page) -> None:
    page.goto(large.url)
    expect(page.locator(".count")).to_have_text("5,000 machines", timeout=SILENCE)
    page.reload()
    expect(page.locator("connection-status")).to_have_text("Live", timeout=SOON)
    expect(page.locator(".count")).to_have_text("5,000 machines")

    grid = page.get_by_role("grid", name="Machines")
    grid.focus()
    page.keyboard.press("End")
    expect(row(page, "large-4999")).to_be_in_viewport()
    expect(row(page, "large-4999")).to_have_attribute("aria-rowindex", "5001")
    expect(grid).to_have_attribute("aria-rowcount", "5001")
    assert page.locator("tr.machine").count() < 80
    assert page.evaluate("document.querySelectorAll('*').length") < 2500

    search(page, "large-4321 redfin")
    expect(page.locator("tr.machine")).to_have_count(1)
