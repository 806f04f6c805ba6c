"""The page's modules by themselves, in a browser but without a lab: what they compute, not how it looks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.e2e

ORIGIN = "http://labkeeper.test"
TYPES = {".js": "text/javascript", ".css": "text/css"}


@pytest.fixture(scope="module")
def modules(chromium: Browser, files: Path) -> Iterator[Page]:
    """An empty page that can import the modules; all tests share it, for they leave nothing behind."""

    def answer(route: Route) -> None:
        path = route.request.url.removeprefix(ORIGIN)
        if not path.startswith("/static/"):
            route.fulfill(body="<!doctype html><title>Empty</title>", content_type="text/html")
            return
        file = files / path.removeprefix("/static/")
        route.fulfill(body=file.read_bytes(), content_type=TYPES[file.suffix])

    page = chromium.new_page()
    page.route(f"{ORIGIN}/**", answer)
    page.goto(f"{ORIGIN}/")
    yield page
    page.close()


def run(page: Page, module: str, code: str, argument: Any = None) -> Any:
    """What an expression on the names that a module exports comes to. `m` is the module, `a` the argument."""
    return page.evaluate(
        f"async (a) => {{ const m = await import('/static/{module}.js'); return {code}; }}", argument
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (59.4, "59s"),
        (59.6, "1m"),
        (89, "1m"),
        (91, "2m"),
        (59.6 * 60, "1h"),
        (23.6 * 3600, "1d"),
        (6.6 * 86400, "1w"),
        (400 * 86400, "1y"),
    ],
)
def test_an_age_has_one_rounded_unit(modules: Page, seconds: float, text: str) -> None:
    assert run(modules, "time", "m.age(a * 1000)", seconds) == text


def test_the_zero_time_is_never(modules: Page) -> None:
    times = ["0001-01-01T00:00:00Z", "", None, "soon", "1970-01-01T00:00:01.5Z"]
    assert run(modules, "time", "a.map(m.parseTime)", times) == [None, None, None, None, 1500]


def test_the_clock_follows_the_servers_and_stands_still_while_nothing_is_heard(modules: Page) -> None:
    code = """await (async () => {
        const clock = new m.ServerClock();
        const near = Math.abs(clock.now() - Date.now()) < 100;
        clock.sync(new Date(Date.now() + 3600e3).toUTCString());
        const ahead = Math.round((clock.now() - Date.now()) / 3600e3);
        clock.freeze();
        const then = clock.now();
        await new Promise((done) => setTimeout(done, 20));
        const still = clock.now() === then;
        clock.thaw();
        return [near, ahead, still, clock.now() > then];
    })()"""
    assert run(modules, "time", code) == [True, 1, True, True]


def test_numbers_in_names_sort_as_numbers(modules: Page) -> None:
    names = ["rack-10", "Rack-9", "rack-1", "alpha"]
    code = "a.toSorted((x, y) => (m.naturalKey(x) < m.naturalKey(y) ? -1 : 1))"
    assert run(modules, "machine", code, names) == ["alpha", "rack-1", "Rack-9", "rack-10"]


def described(machine_id: str, **more: Any) -> dict[str, Any]:
    dimensions = {"id": [machine_id], **more.pop("Dimensions", {})}
    return {"Dimensions": dimensions, "AttachedDevice": "nodevice", "RowVersion": 1, **more}


@pytest.mark.parametrize(
    ("more", "state", "reason"),
    [
        ({}, "available", ""),
        ({"RunningSwarmingTask": True}, "busy", ""),
        ({"Recovering": "Too hot.", "RunningSwarmingTask": True}, "recovering", "Too hot."),
        (
            {"MaintenanceMode": "a@b.org 2026-01-31T09:30:00Z new hub", "Recovering": "Too hot."},
            "maintenance",
            "new hub (a) · Too hot.",
        ),
        ({"MaintenanceMode": "a@b.org 2026-01-31T09:30:00Z"}, "maintenance", "by a"),
        ({"IsQuarantined": True, "MaintenanceMode": "a@b.org"}, "quarantined", "forced by a task · by a"),
        ({"DownSince": "2026-01-31T09:30:00Z", "IsQuarantined": True}, "down", "forced by a task"),
        ({"DownSince": "0001-01-01T00:00:00Z"}, "available", ""),
    ],
)
def test_the_worst_state_is_shown_and_all_reasons(
    modules: Page, more: dict[str, Any], state: str, reason: str
) -> None:
    machine = run(modules, "machine", "m.toMachine(a)", described("m1", **more))

    assert (machine["state"], machine["reason"]) == (state, reason)


def test_a_description_without_dimensions_is_not_a_machine(modules: Page) -> None:
    assert run(modules, "machine", "[{}, {Dimensions: null}].map(m.toMachine)") == [None, None]


@pytest.mark.parametrize(
    ("battery", "kind", "shown"), [(55, "android", "55%"), (-99, "ios", "unknown"), (0, "standalone", "")]
)
def test_a_battery_is_shown_where_there_is_one(modules: Page, battery: int, kind: str, shown: str) -> None:
    machine = described("m1", Battery=battery, DeviceKind=kind)
    code = "m.batteryText((await import('/static/machine.js')).toMachine(a).battery)"

    assert run(modules, "columns", code, machine) == shown


def test_the_battery_cycle_counter_is_no_temperature(modules: Page) -> None:
    machine = described("m1", Temperature={"skin": 30.0, "cpu": 34.0, "battery_cycle": 400.0})
    code = "(({temperatureAverage: x, temperatureMaximum: y}) => [x, y])(m.toMachine(a))"

    assert run(modules, "machine", code, machine) == [32.0, 34.0]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", True),
        ("pixel", True),
        ("PIXEL   lab", True),
        ("pool:lab device_type:redfin", True),
        ("flaky", True),
        ("available", True),
        ("pixel down", False),
        ("redfin\nlab", True),
        ("m1available", False),
    ],
)
def test_every_word_must_occur_somewhere(modules: Page, search: str, found: bool) -> None:
    machine = described(
        "m1", Dimensions={"device_type": ["redfin"], "pool": ["Lab"]}, Note={"Message": "Flaky wifi"}
    )
    code = "m.matches((await import('/static/machine.js')).toMachine(a[0]), m.wordsOf(a[1]))"

    assert run(modules, "view", code, [machine, search]) is found


def test_blanks_sort_last_both_ways_and_ids_decide_between_equals(modules: Page) -> None:
    machines = [
        described("m3", Battery=40, DeviceKind="android"),
        described("m2", Battery=40, DeviceKind="android"),
        described("m4"),
        described("m1", Battery=90, DeviceKind="android"),
    ]
    code = """await (async () => {
        const {toMachine} = await import('/static/machine.js');
        const ids = (sort) => a.map(toMachine).sort(m.comparator(m.parseSort(sort))).map(({id}) => id);
        return [ids('battery'), ids('-battery')];
    })()"""

    assert run(modules, "view", code, machines) == [["m2", "m3", "m1", "m4"], ["m1", "m2", "m3", "m4"]]


def test_a_second_click_turns_the_sort_and_earlier_columns_break_ties(modules: Page) -> None:
    code = """(() => {
        const once = m.sortedBy(m.DEFAULT_SORT, 'battery');
        return [once, m.sortedBy(once, 'battery'), m.parseSort('bogus'), m.parseSort('-state,pool')].map(m.formatSort);
    })()"""

    assert run(modules, "view", code) == ["battery,machine", "-battery,machine", "machine", "-state,pool"]


@pytest.mark.parametrize(
    "query",
    ["", "?search=pixel+5", "?state=down,recovering", "?sort=-battery,state", "?hidden=", "?machine=a.b-1"],
)
def test_an_address_says_the_same_when_it_is_written_again(modules: Page, query: str) -> None:
    code = "m.formatAddress(m.readAddress(a))"
    assert run(modules, "address", code, query) == (query or "/")


def test_an_address_with_nonsense_is_as_good_as_none(modules: Page) -> None:
    code = "m.formatAddress(m.readAddress(a))"
    assert run(modules, "address", code, "?state=happy&sort=mood&hidden=frown&x=y") == "?hidden="


@pytest.mark.parametrize("width", [320, 375, 580, 1009, 1425, 1905])
def test_the_columns_that_are_chosen_fit_and_fill_the_window(modules: Page, width: int) -> None:
    code = "(() => { const columns = m.fittingColumns(a); return [columns.map(({key}) => key), m.widthsOf(columns, a)]; })()"
    keys, widths = run(modules, "columns", code, width)

    assert keys[:2] == ["machine", "state"]
    assert round(sum(widths)) == width


FLEET = """await (async () => {
    const frames = [];
    const fleet = new m.Fleet((callback) => frames.push(callback));
    const told = [];
    const names = (set) => [...set].toSorted().join();
    fleet.addEventListener('change', ({detail: {changed, added, removed}}) =>
        told.push([names(added), names(changed), names(removed)]));
    const put = (id, version, more = {}) =>
        fleet.put({Dimensions: {id: [id]}, RowVersion: version, AttachedDevice: 'nodevice', ...more});
    const frame = () => frames.splice(0).forEach((callback) => callback());
    %s
})()"""


def fleet(page: Page, code: str) -> Any:
    return run(page, "fleet", FLEET % code)


def test_changes_are_told_once_a_frame(modules: Page) -> None:
    code = "put('a', 1); put('a', 2); put('b', 1); const early = told.length; frame(); put('a', 3); frame(); return [early, told];"
    assert fleet(modules, code) == [0, [["a,b", "", ""], ["", "a", ""]]]


def test_an_older_version_never_replaces_a_newer_one(modules: Page) -> None:
    code = (
        "put('a', 5); frame(); put('a', 4); put('a', 6); put('a', 5); frame(); return fleet.get('a').version;"
    )
    assert fleet(modules, code) == 6


def test_a_machine_that_was_deleted_may_come_back_with_a_low_version(modules: Page) -> None:
    code = "put('a', 5); frame(); fleet.remove('a'); put('a', 1); frame(); return [fleet.get('a').version, told];"
    assert fleet(modules, code) == [1, [["a", "", ""], ["", "a", ""]]]


def test_what_a_reset_does_not_mention_again_is_gone_when_it_is_over(modules: Page) -> None:
    code = """put('a', 5); put('b', 5); fleet.synced();
        fleet.reset(); put('a', 2); frame(); const during = fleet.size;
        fleet.synced(); return [during, [...fleet.ids()], fleet.get('a').version];"""
    assert fleet(modules, code) == [2, ["a"], 2]


def test_the_counts_of_the_states_follow(modules: Page) -> None:
    code = """const counts = () => ['available', 'recovering'].map((state) => fleet.count(state));
        put('a', 1); put('b', 1); frame(); const first = counts();
        put('a', 2, {Recovering: 'Too hot.'}); frame(); const second = counts();
        fleet.remove('a'); frame(); return [first, second, counts()];"""
    assert fleet(modules, code) == [[2, 0], [1, 1], [1, 0]]


def trend(modules: Page, *percents: float | None, **latest: Any) -> Any:
    """What the page makes of a history with these availabilities."""
    stats: list[dict[str, Any]] = [
        {"availability_percent": percent, "flapping": [], "flapping_total": 0} for percent in percents
    ]
    if stats:
        stats[-1] |= latest
    return run(modules, "fleet-trend", "m.trendOf(a)", {"stats": stats})


def test_availability_is_drawn_from_the_oldest_at_the_left(modules: Page) -> None:
    shown = trend(modules, 100, 90, 95)

    assert (shown["available"], shown["lowest"]) == ("95 %", "90 %")
    assert shown["points"] == "0.0,1.0 36.0,15.0 72.0,8.0"


def test_an_availability_that_is_nearly_full_is_not_called_full(modules: Page) -> None:
    assert trend(modules, 99.999)["available"] == "99.9 %"
    assert trend(modules, 100)["available"] == "100 %"
    assert trend(modules, 100)["points"] == "0,1.0 72,1.0"


def test_windows_without_machines_are_left_out_of_the_trend(modules: Page) -> None:
    assert trend(modules) is None
    assert trend(modules, None, None) is None
    assert trend(modules, 100, None, 50)["points"] == "0.0,1.0 72.0,15.0"


def test_flapping_machines_are_named(modules: Page) -> None:
    flapping = [{"id": f"m{number}", "changes": 9} for number in range(12)]

    shown = trend(modules, 100, flapping=flapping, flapping_total=25)

    assert shown["flapping"] == 25
    assert shown["names"].startswith("m0 (9), m1 (9)")
    assert shown["names"].endswith("15 more")


@pytest.mark.parametrize(
    ("fields", "text", "rank"),
    [
        ({}, "", None),
        ({"PowerCycleState": "available"}, "", 4),
        ({"PowerCycleState": "available", "PowerAction": "off", "PowerStatus": "done"}, "Power off done", 4),
        (
            {"PowerAction": "off", "PowerStatus": "done", "DownSince": "2026-03-01T12:00:00Z"},
            "Power off done",
            3,
        ),
        ({"PowerCycleState": "in_error"}, "", 2),
        ({"PowerCycleState": "available", "PowerCycle": True}, "Power cycle: queued", 0),
        ({"PowerAction": "off", "PowerStatus": "accepted"}, "Power off: accepted", 0),
        ({"PowerAction": "off", "PowerStatus": "off"}, "Power off: off", 0),
        ({"PowerAction": "cycle", "PowerStatus": "done"}, "Power cycle done", None),
        ({"PowerAction": "cycle", "PowerStatus": "expired"}, "Power cycle expired", 1),
        ({"PowerAction": "melt", "PowerStatus": "done"}, "melt done", None),
    ],
)
def test_how_far_a_power_command_is_reads_like_a_sentence(
    modules: Page, fields: dict[str, Any], text: str, rank: int | None
) -> None:
    code = "(({power}) => [m.powerText(power), m.powerRank(power)])((await import('/static/machine.js')).toMachine(a))"
    assert run(modules, "power", code, described("m1", **fields)) == [text, rank]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("", ""),
        ("held: in maintenance (jo)", "Self-healing holds back: in maintenance (jo)"),
        (
            "cycling: a power cycle was ordered at 2026-03-01T12:40:45Z",
            "Self-healing is cycling it: a power cycle was ordered at <the moment>",
        ),
        ("pondering", "Self-healing pondering"),
    ],
)
def test_self_healing_is_told_in_the_readers_time(modules: Page, said: str, shown: str) -> None:
    code = """await (async () => {
        const { moment } = await import('/static/time.js');
        return m.healingText({ Healing: a }).replace(moment(Date.UTC(2026, 2, 1, 12, 40, 45)), '<the moment>');
    })()"""
    assert run(modules, "power", code, said) == shown


def test_todays_times_are_told_without_the_date(modules: Page) -> None:
    code = "m.withLocalTimes('at ' + a, Date.parse(a)) === 'at ' + m.timeOfDay(Date.parse(a))"
    assert run(modules, "time", code, "2026-03-01T12:40:45.5Z") is True


def test_a_machine_that_self_healing_gave_up_is_found_by_these_words(modules: Page) -> None:
    machine = described("m1", Healing="gave up: 3 cycles did not help")
    code = """await (async () => {
        const machine = (await import('/static/machine.js')).toMachine(a);
        return [machine.gaveUp, m.matches(machine, m.wordsOf('gave up'))];
    })()"""
    assert run(modules, "view", code, machine) == [True, True]
