from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pipeline.command import CommandFailed
from producers.labkeeper import catalogue
from producers.labkeeper.__main__ import umbrella
from producers.labkeeper.catalogue import Entry
from producers.labkeeper.umbrella import LazyGroup, load
from tests.unit.producers.labkeeper.command_line import labkeeper

ROOT = Path(__file__).parents[4]


def test_help_names_every_command_by_section_and_teaches_how_to_begin() -> None:
    shown = labkeeper("--help")

    assert shown.code == 0
    for section in ("Everyday:", "Machines:", "Services:", "Upkeep:"):
        assert section in shown.lines
    for entry in catalogue.COMMANDS:
        assert f"  {entry.name} " in shown.out
        assert entry.help in shown.out
    assert "labkeeper up" in shown.out
    assert "docs/" in shown.out


def test_help_fits_a_terminal_of_80_columns() -> None:
    for arguments in ((), ("machines",), ("machines", "list")):
        lines = labkeeper(*arguments, "--help").lines
        too_long = [line for line in lines if len(line) > 80 and "[" not in line and "labkeeper " not in line]
        assert not too_long


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from producers.labkeeper.__main__ import umbrella\n"
        "umbrella.main(['--help'], standalone_mode=False)\n"
        "heavy = {'aiohttp', 'psycopg2', 'pydantic', 'rich', 'asyncio', 'structlog'} & sys.modules.keys()\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 0, ended.stderr


def test_a_typo_is_answered_with_what_was_probably_meant() -> None:
    result = labkeeper("machnes", "list")

    assert result.code == 2
    assert "There is no command 'machnes'. Did you mean machines?" in result.err


def test_a_typo_in_a_group_is_answered_as_well() -> None:
    result = labkeeper("machines", "lst")

    assert result.code == 2
    assert "Did you mean list?" in result.err


def test_a_word_that_is_like_nothing_is_simply_refused() -> None:
    result = labkeeper("xyzzy")

    assert result.code == 2
    assert "There is no command 'xyzzy'." in result.err
    assert "Did you mean" not in result.err


def test_the_version_is_the_installed_packages() -> None:
    result = labkeeper("--version")

    assert result.code == 0
    assert result.out.startswith("labkeeper 0.")


def test_a_command_whose_library_is_missing_says_so() -> None:
    with pytest.raises(CommandFailed, match="'no_such_library_here' is not installed"):
        load(Entry("ghost", "no_such_library_here", "Haunts."))


def test_a_catalogue_that_names_something_else_is_our_own_mistake() -> None:
    with pytest.raises(TypeError, match="is not a command"):
        load(Entry("wrong", "producers.labkeeper.catalogue", "Is no command.", attribute="COMMANDS"))


def test_names_complete_without_loading_the_commands() -> None:
    group = LazyGroup(name="x", entries=[Entry("ghost", "no_such_library_here", "Haunts.")])
    with click.Context(group) as context:
        [item] = group.shell_complete(context, "gh")

    assert (item.value, item.help) == ("ghost", "Haunts.")


def test_the_module_runs_as_python_dash_m() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for module in ("producers.labkeeper", "producers.labkeeper.as_module"):
        began = time.monotonic()
        ended = subprocess.run(
            [sys.executable, "-m", module, "--help"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0
        assert ended.stdout.startswith("Usage: labkeeper [OPTIONS]")
        assert time.monotonic() - began < 20  # generous: the promise of 0.3 s is the bench's to measure


def _own_commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Commands of this package; services document themselves."""
    context = click.Context(group)
    for name in group.list_commands(context):
        entry = next((entry for entry in catalogue.COMMANDS if not path and entry.name == name), None)
        if entry is not None and not entry.module.startswith("producers.labkeeper."):
            continue
        if entry is not None and not (ROOT / (entry.module.replace(".", "/") + ".py")).is_file():
            continue
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _own_commands(command, (*path, name))


def test_every_command_explains_itself_with_a_sentence_and_an_example() -> None:
    seen = 0
    for path, command in _own_commands(umbrella):
        result = labkeeper(*path, "--help")
        assert result.code == 0, path
        text = command.help or ""
        assert "." in text, path
        if path[0] != "schemas":
            assert f"labkeeper {path[0]}" in text, path
        seen += 1
    assert seen > 15
