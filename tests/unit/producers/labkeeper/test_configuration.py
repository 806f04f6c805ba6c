from __future__ import annotations

from pathlib import Path

import pytest

from producers.labkeeper.configuration import SHARED
from tests.unit.producers.labkeeper.command_line import Result, labkeeper, labkeeper_beside
from tests.unit.producers.labkeeper.facade_double import FacadeDouble
from tests.unit.producers.labkeeper.fleet import machine


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "labkeeper.toml"


def _fill(file: Path, text: str) -> None:
    file.write_text(text)


def _list(file: Path, *arguments: str, **environment: str) -> Result:
    return labkeeper("--config", str(file), "machines", "list", *arguments, **environment)


async def test_a_file_gives_defaults_to_the_commands_that_it_names(facade: FacadeDouble, file: Path) -> None:
    facade.add(*(machine(f"m-{number}") for number in range(3)))
    _fill(
        file,
        f"""
        url = "{facade.url}"
        [machines.list]
        output = "name"
        limit = 2
        where = ["pool=Skia", "os=Android"]
    """,
    )

    result = await labkeeper_beside("--config", str(file), "machines", "list")

    assert (result.code, result.lines) == (0, ["m-0", "m-1"])
    assert facade.asked[0].query[:2] == [("dimension", "pool:Skia"), ("dimension", "os:Android")]


async def test_command_line_beats_environment_beats_file(facade: FacadeDouble, file: Path) -> None:
    _fill(file, 'url = "http://file.invalid"')
    nowhere = "http://127.0.0.1:1"

    from_environment = await labkeeper_beside(
        "machines", "list", "-o", "json", LABKEEPER_URL=facade.url, LABKEEPER_CONFIG=str(file)
    )
    from_arguments = await labkeeper_beside(
        *("--config", str(file), "machines", "list", "-o", "json", "--url", facade.url), LABKEEPER_URL=nowhere
    )

    assert from_environment.json == []
    assert from_arguments.json == []


async def test_a_table_of_a_group_shares_keys_with_its_commands(facade: FacadeDouble, file: Path) -> None:
    facade.add(machine("m"))
    _fill(
        file,
        f"""
        url = "http://127.0.0.1:1"
        output = "json"
        [machines]
        url = "{facade.url}"
        [machines.show]
        output = "name"
    """,
    )

    shown = await labkeeper_beside("--config", str(file), "machines", "show", "m")
    listed = await labkeeper_beside("--config", str(file), "machines", "list")

    assert shown.out == "m\n"
    assert len(listed.json) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("urk = 'http://lab'", "'urk' is not shared by several commands"),
        ("[machine.list]\nlimit = 1", "no command for the table [machine]; there are up, status, machines"),
        ("[machines]\nlimit = 1", "[machines] knows no 'limit'; it takes list, show, history"),
        ("[machines.lst]\nlimit = 1", "[machines] knows no 'lst'"),
        ("[machines.list]\nlimits = 1", "[machines.list] knows no 'limits'; it takes where, health"),
        ("[machines.delete]\nyes = true", "[machines.delete] knows no 'yes'"),
        ("[machines]\nlist = 1", "[machines] knows no 'list'"),
        ("url = ", "is not a TOML file"),
    ],
)
def test_what_is_not_understood_is_refused(file: Path, text: str, told: str) -> None:
    file.write_text(text)

    result = _list(file)

    assert result.code == 2
    assert str(file) in result.err
    assert told in result.err


def test_a_value_of_the_wrong_kind_is_refused_by_its_option(file: Path) -> None:
    file.write_text("[machines.list]\nlimit = 'many'")

    result = _list(file)

    assert result.code == 2
    assert "--limit" in result.err


def test_a_file_that_is_not_there_is_a_usage_error(file: Path) -> None:
    result = _list(file)

    assert result.code == 2
    assert "does not exist" in result.err


def test_a_file_that_is_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")

    assert "is not a TOML file" in _list(file).err


def test_every_shared_key_is_an_option_of_some_command() -> None:
    pages = [
        labkeeper(*path, "--help").out
        for path in (("machines", "list"), ("db", "migrate"), ("dead", "list"), ("simulator",), ("writer",))
    ]
    for key in SHARED:
        assert any(f"--{key} " in page for page in pages), key
