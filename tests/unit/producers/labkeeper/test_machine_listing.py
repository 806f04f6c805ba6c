from __future__ import annotations

from datetime import timedelta

from aiohttp import web

from schemas.changes import ChangeKind, HistoryEntry
from schemas.description import Annotation, TaskRequest
from tests.unit.producers.labkeeper.command_line import labkeeper, labkeeper_beside
from tests.unit.producers.labkeeper.facade_double import FacadeDouble
from tests.unit.producers.labkeeper.fleet import T0, machine

LONG = "skia-e-linux-rack-with-a-very-long-name-indeed-0123456789-and-then-some-more-of-it"


async def test_all_pages_are_listed_in_the_facades_order(facade: FacadeDouble) -> None:
    facade.add(*(machine(f"m-{number}") for number in (5, 3, 1, 4, 2)))

    result = await labkeeper_beside("machines", "list", "-o", "name", "--url", facade.url)

    assert (result.code, result.lines) == (0, ["m-5", "m-3", "m-1", "m-4", "m-2"])
    assert len(facade.asked) == 3


async def test_json_is_exactly_what_the_facade_sent(facade: FacadeDouble) -> None:
    sent = machine("m", dimensions={"os": ["Änderung", "\x9b31m"]}) | {"FieldOfTomorrow": 2**60}
    facade.add(sent)

    result = await labkeeper_beside("machines", "list", "-o", "json", "--url", facade.url)

    assert result.json == [sent]
    assert "\x9b" not in result.out


async def test_an_empty_lab_is_an_empty_list_and_advice(facade: FacadeDouble) -> None:
    as_json = await labkeeper_beside("machines", "list", "-o", "json", "--url", facade.url)
    as_table = await labkeeper_beside("machines", "list", LABKEEPER_URL=facade.url)

    assert (as_json.code, as_json.json) == (0, [])
    assert (as_table.code, as_table.out) == (0, "")
    assert "no machines yet" in as_table.err


async def test_a_lab_that_is_not_ready_does_not_pass_for_one_without_machines(facade: FacadeDouble) -> None:
    parts = {"ready": False, "store": "ok", "broker": "ok", "machines": "not loaded yet"}
    facade.readiness = lambda: web.json_response(parts, status=503)

    everything = await labkeeper_beside("machines", "list", "--url", facade.url)
    some = await labkeeper_beside("machines", "list", "--down", "--url", facade.url)

    assert everything.code == 7
    assert "is up but not ready (machines: not loaded yet)" in everything.err
    assert some.code == 0


async def test_filters_become_the_facades_parameters(facade: FacadeDouble) -> None:
    result = await labkeeper_beside(
        *("machines", "list", "pixel", "rack 4", "--where", "pool=Skia", "--where", "gpu=a=b"),
        *(
            "--health",
            "recovering",
            "--down",
            "--device",
            "adb",
            "--sort",
            "battery",
            "--desc",
            "--limit",
            "7",
        ),
        *("--url", facade.url),
    )

    assert result.code == 0
    assert facade.asked[0].query == [
        ("dimension", "pool:Skia"),
        ("dimension", "gpu:a=b"),
        ("health", "recovering"),
        ("health", "down"),
        ("attached_device", "adb"),
        ("q", "pixel rack 4"),
        ("sort", "battery"),
        ("order", "desc"),
        ("limit", "7"),
    ]
    assert "No machine meets these conditions." in result.err


async def test_a_limit_ends_the_listing(facade: FacadeDouble) -> None:
    facade.add(*(machine(f"m-{number}") for number in range(9)))

    result = await labkeeper_beside("machines", "list", "-o", "name", "--limit", "3", "--url", facade.url)

    assert result.lines == ["m-0", "m-1", "m-2"]


def test_a_condition_that_is_none_is_a_usage_error() -> None:
    result = labkeeper("machines", "list", "--where", "pool")

    assert result.code == 2
    assert "'pool' is not of the form key=value" in result.err


async def test_a_piped_table_cuts_and_colours_nothing(facade: FacadeDouble) -> None:
    reason = "a very long reason that no terminal of 80 columns would have any room for at all, really"
    facade.add(machine(LONG, recovering=reason))

    result = await labkeeper_beside("machines", "list", "--url", facade.url, FORCE_COLOR="1", COLUMNS="80")

    assert "\x1b" not in result.out
    heading, row = result.lines
    assert heading.split() == ["MACHINE", "STATE", "WHY", "DEVICE", "BATT", "SEEN"]
    assert row.startswith(LONG)
    assert reason in row


async def test_the_worst_state_is_shown_in_one_word_and_all_reasons_are_told(facade: FacadeDouble) -> None:
    facade.add(
        machine("fine"),
        machine("mended", maintenance_mode="ada@example.org 2026-01-30T10:00:00Z new fan"),
        machine("taken", maintenance_mode="ada@example.org 2026-01-30T10:00:00Z", recovering="Too hot. "),
        machine("accused", is_quarantined=True),
        machine("silent", down_since=T0),
        machine("working", task_request=TaskRequest(name="Test-Pixel")),
        machine("swarming", running_swarming_task=True),
    )

    result = await labkeeper_beside("machines", "list", "--url", facade.url)

    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in result.lines[1:]}
    assert rows["fine"].startswith("available - -")
    assert rows["mended"].startswith("maintenance new fan (ada) ")
    assert rows["taken"].startswith("maintenance by ada; recovering: Too hot. ")
    assert rows["accused"].startswith("quarantined forced by a task ")
    assert rows["silent"].startswith("down silent for ")
    assert rows["working"].startswith("busy Test-Pixel ")
    assert rows["swarming"].startswith("busy Swarming ")


async def test_what_machines_say_cannot_steer_the_terminal(facade: FacadeDouble) -> None:
    facade.add(machine("m", recovering="[red]\x1b[2J\u202egnp.exe\nfake row"))

    listed = await labkeeper_beside("machines", "list", "--url", facade.url)
    shown = await labkeeper_beside("machines", "show", "m", "--url", facade.url)

    for result in (listed, shown):
        assert "[red]\\x1b[2J\\u202egnp.exe\\nfake row" in result.out
        assert "\x1b" not in result.out


async def test_show_tells_all_that_is_known(facade: FacadeDouble) -> None:
    facade.add(
        machine(
            "m",
            version=17,
            attached_device="adb",
            device_kind="android",
            battery=-99,
            device_uptime_s=3700,
            temperature={"cpu": 41.5},
            power_cycle=True,
            power_cycle_state="available",
            note=Annotation(message="smells", user="ada@example.org", timestamp=T0),
            dimensions={"os": ["Android", "AndroidS"]},
        )
    )

    result = await labkeeper_beside("machines", "show", "m", "--url", facade.url)

    assert result.code == 0
    facts = {line[2:16].strip(): line[16:] for line in result.lines if line.startswith("  ")}
    assert facts["state"] == "available"
    assert facts["device"] == "adb, seen as android, up for 1 h 1 min"
    assert facts["battery"] == "?"
    assert facts["temperature"] == "cpu 41.5 °C"
    assert facts["power"] == "can be cycled, cycle requested"
    assert facts["note"] == "smells (ada@example.org, 2026-01-31T09:30:00Z)"
    assert facts["row version"] == "17"
    assert "    os = Android, AndroidS" in result.lines


async def test_one_machine_is_an_object_and_several_are_a_list(facade: FacadeDouble) -> None:
    facade.add(machine("a"), machine("b"))

    one = await labkeeper_beside("machines", "show", "a", "-o", "json", "--url", facade.url)
    two = await labkeeper_beside("machines", "show", "b", "a", "b", "-o", "json", "--url", facade.url)

    assert one.json["Dimensions"]["id"] == ["a"]
    assert [found["Dimensions"]["id"] for found in two.json] == [["b"], ["a"]]


async def test_an_unknown_machine_among_known_ones_is_reported_last(facade: FacadeDouble) -> None:
    facade.add(machine("a"), machine("c"))

    result = await labkeeper_beside("machines", "show", "a", "b", "c", "-o", "name", "--url", facade.url)

    assert result.code == 3
    assert result.lines == ["a", "c"]
    assert result.err == "labkeeper: there is no machine 'b'\n"


def test_what_cannot_be_a_machine_is_not_even_asked_for() -> None:
    result = labkeeper("machines", "show", "../secrets", "--url", "http://127.0.0.1:9")

    assert result.code == 2
    assert "'../secrets' cannot be a machine" in result.err


def _entry(number: int) -> dict[str, object]:
    return HistoryEntry(
        id=f"01JK{number:022d}",
        machine_id="m",
        at=T0 - timedelta(hours=number),
        kind=ChangeKind.MODE,
        who="ada@example.org",
        before="",
        after="ada@example.org 2026-01-31T09:30:00Z new fan",
        why="new fan",
    ).model_dump(mode="json")


async def test_history_comes_newest_first_over_all_pages(facade: FacadeDouble) -> None:
    facade.history = [_entry(number) for number in range(5)]

    table = await labkeeper_beside("machines", "history", "m", "--url", facade.url)
    three = await labkeeper_beside(
        "machines", "history", "m", "--limit", "3", "-o", "json", "--url", facade.url
    )
    everything = await labkeeper_beside(
        "machines", "history", "m", "--all", "-o", "name", "--url", facade.url
    )

    assert table.lines[0].split() == ["WHEN", "WHAT", "WHO", "CHANGE"]
    assert table.lines[1].split("  ") == [
        *("2026-01-31T09:30:00Z", "mode", "ada", "- → maintenance: new fan (ada)"),
    ]
    assert three.json == facade.history[:3]
    assert everything.lines == [entry["id"] for entry in facade.history]


async def test_a_machine_without_history_is_no_error(facade: FacadeDouble) -> None:
    result = await labkeeper_beside("machines", "history", "m", "-o", "json", "--url", facade.url)

    assert (result.code, result.json) == (0, [])
    assert "Nothing is known to have happened to m." in result.err


async def test_status_counts_machines_by_their_worst_state(facade: FacadeDouble) -> None:
    facade.add(machine("a"), machine("b"), machine("c", down_since=T0, is_quarantined=True))

    text = await labkeeper_beside("status", "--url", facade.url)
    document = await labkeeper_beside("status", "-o", "json", "--url", facade.url)

    assert text.code == 0
    assert "ready" in text.lines[0]
    assert "you are   ada@example.org (operator)" in text.lines
    assert "machines  3" in text.lines
    assert document.json["machines"]["available"] == 2
    assert document.json["machines"]["down"] == 1
    assert document.json["machines"]["busy"] == 0


async def test_a_lab_without_a_writer_is_no_lab_that_is_up(facade: FacadeDouble) -> None:
    facade.readiness = lambda: web.json_response({"ready": True, "writer": "last seen 70 s ago"})
    silent = await labkeeper_beside("status", "--url", facade.url)
    facade.readiness = lambda: web.json_response({"ready": True, "writer": "ok"})
    well = await labkeeper_beside("status", "--url", facade.url)

    assert silent.code == 1
    assert "writer    last seen 70 s ago" in silent.lines
    assert "no writer is at work (last seen 70 s ago)" in silent.err
    assert (well.code, well.err) == (0, "")
    assert "writer    ok" in well.lines


async def test_a_facade_that_is_not_ready_is_unreachable_and_says_what_is_missing(
    facade: FacadeDouble,
) -> None:
    parts = {"ready": False, "store": "out of reach", "broker": "ok", "machines": "not loaded yet"}
    facade.refusal = lambda: web.json_response(parts, status=503)

    result = await labkeeper_beside("status", "--url", facade.url)

    assert result.code == 7
    assert "is up but not ready (store: out of reach, machines: not loaded yet)" in result.err
