from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.producers.labkeeper.command_line import labkeeper, labkeeper_beside
from tests.unit.producers.labkeeper.facade_double import FacadeDouble
from tests.unit.producers.labkeeper.fleet import machine

ACTIONS = [
    (("maintenance", "on", "m", "--reason", "new fan"), "PUT", "maintenance", {"reason": "new fan"}),
    (("maintenance", "on", "m"), "PUT", "maintenance", {"reason": ""}),
    (("maintenance", "off", "m"), "DELETE", "maintenance", None),
    (("note", "m", "-m", "smells"), "PUT", "note", {"message": "smells"}),
    (("note", "m", "--clear"), "DELETE", "note", None),
    (("set-device", "adb", "m"), "PUT", "attached-device", {"attached_device": "adb"}),
    (("clear-quarantine", "m"), "DELETE", "quarantine", None),
]


@pytest.mark.parametrize(("arguments", "method", "place", "body"), ACTIONS)
async def test_an_action_asks_the_facade_and_says_what_was_done(
    facade: FacadeDouble, arguments: tuple[str, ...], method: str, place: str, body: object
) -> None:
    facade.add(machine("m"))

    result = await labkeeper_beside("machines", *arguments, "--url", facade.url)

    assert result.code == 0, result.err
    assert result.out.startswith("m: ")
    [asked] = facade.asked
    assert (asked.method, asked.path, asked.body) == (method, f"/api/v1/machines/m/{place}", body)


async def test_several_machines_are_done_in_turn_and_the_missing_ones_told(facade: FacadeDouble) -> None:
    facade.add(machine("a"), machine("d"))

    result = await labkeeper_beside("machines", "clear-quarantine", "a", "b", "c", "d", "--url", facade.url)

    assert result.code == 3
    assert result.lines == ["a: no longer quarantined", "d: no longer quarantined"]
    assert sorted(result.err.splitlines()) == [
        "labkeeper: there is no machine 'b'",
        "labkeeper: there is no machine 'c'",
    ]


@pytest.mark.parametrize(
    "arguments", [("note", "m"), ("note", "m", "-m", "x", "--clear"), ("note", "m", "-m", "")]
)
def test_a_note_is_either_left_or_taken_away(arguments: tuple[str, ...]) -> None:
    result = labkeeper("machines", *arguments)

    assert result.code == 2
    assert "Give either --message TEXT or --clear." in result.err


def test_an_unknown_kind_of_device_is_refused_with_those_there_are() -> None:
    result = labkeeper("machines", "set-device", "toaster", "m")

    assert result.code == 2
    assert "'nodevice', 'adb', 'ios', 'pyocd', 'ssh'" in result.err


async def test_deleting_asks_first(facade: FacadeDouble) -> None:
    facade.add(machine("a"), machine("b"))

    refused = await labkeeper_beside("machines", "delete", "a", "b", "--url", facade.url, answer="n\n")
    unanswered = await labkeeper_beside("machines", "delete", "a", "--url", facade.url)
    assert set(facade.machines) == {"a", "b"}
    agreed = await labkeeper_beside("machines", "delete", "a", "--url", facade.url, answer="y\n")

    assert "Delete 2 machines (a, b)?" in refused.err
    assert (refused.code, unanswered.code, agreed.code) == (1, 1, 0)
    assert "--yes answers for you" in unanswered.err.splitlines()[-1]
    assert "Delete" not in unanswered.err.splitlines()[-1]
    assert set(facade.machines) == {"b"}


async def test_yes_answers_the_question(facade: FacadeDouble) -> None:
    facade.add(machine("a"))

    result = await labkeeper_beside("machines", "delete", "a", "--yes", "--url", facade.url)

    assert (result.code, result.out, facade.machines) == (0, "a: deleted\n", {})


async def test_the_token_travels_in_a_header_from_a_file_or_the_environment(
    facade: FacadeDouble, tmp_path: Path
) -> None:
    facade.add(machine("m"))
    file = tmp_path / "token"
    file.write_text("from-file\n")

    await labkeeper_beside("machines", "show", "m", "--url", facade.url, LABKEEPER_TOKEN="from-environment")
    await labkeeper_beside(
        *("machines", "show", "m", "--token-file", str(file), "--url", facade.url),
        LABKEEPER_TOKEN="from-environment",
    )
    await labkeeper_beside("machines", "show", "m", "--url", facade.url)

    tokens = [asked.token for asked in facade.asked]
    assert tokens == ["Bearer from-environment", "Bearer from-file", None]
