from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

import pytest

from producers.labkeeper.output import Column, Fit, write_json, write_table
from tests.unit.producers.labkeeper.command_line import labkeeper
from tests.unit.producers.labkeeper.facade_double import FacadeDouble
from tests.unit.producers.labkeeper.fleet import T0, machine

ROOT = Path(__file__).parents[4]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
NAME = "skia-rpi2-rack4-shelf1-020"
LONG = "a reason that is far too long to be shown on any terminal of only eighty columns in full"


async def _on_a_terminal(columns: int, facade: FacadeDouble, **environment: str) -> str:
    """What `labkeeper machines list` shows on a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "producers.labkeeper", "machines", "list", "--url", facade.url),
            env={**clean, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=asyncio.subprocess.DEVNULL,
        )
        os.close(theirs)
        async with asyncio.timeout(60):
            shown, _ = await asyncio.gather(asyncio.to_thread(_read_all, ours), process.wait())
    finally:
        os.close(ours)
    assert process.returncode == 0
    return shown.decode().replace("\r\n", "\n")


def _read_all(terminal: int) -> bytes:
    """Everything until the other end is closed, which Linux reports as an error and others as an end."""
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            return shown
        if not piece:
            return shown
        shown += piece


@pytest.fixture
def fleet(facade: FacadeDouble) -> FacadeDouble:
    facade.add(machine(NAME, recovering=LONG), machine("m", down_since=T0))
    return facade


async def test_a_terminal_gets_colours_and_lines_that_fit(fleet: FacadeDouble) -> None:
    shown = await _on_a_terminal(80, fleet)

    assert "\x1b[33mrecovering" in shown
    lines = COLOUR.sub("", shown).splitlines()
    assert len(lines) == 3
    assert all(len(line) <= 80 for line in lines)
    assert lines[1].startswith(f"{NAME}  recovering  a reason that")
    assert "…" in lines[1]


async def test_a_terminal_that_is_too_narrow_never_cuts_a_name(fleet: FacadeDouble) -> None:
    assert NAME in await _on_a_terminal(20, fleet)


async def test_who_wants_no_colours_gets_none(fleet: FacadeDouble) -> None:
    assert "\x1b[3" not in await _on_a_terminal(80, fleet, NO_COLOR="1")


def test_elsewhere_nothing_is_cut_or_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [Column("A"), Column("B", Fit.CUT), Column("C", Fit.WRAP), Column("D", right=True)]

    write_table(columns, [("[bold]a", LONG, LONG, "1"), ("ü\x1b[m", "日本", "", "22")])

    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["A", "B", "C", "D"]
    assert first == f"[bold]a  {LONG}  {LONG}   1"
    assert second.startswith("ü\\x1b[m  日本")
    assert second.endswith("  22")


def test_json_says_the_same_without_anything_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_json({"a": "\x1b\x9b\u202e\ud800ü"}, compact=True)

    assert capsys.readouterr().out == '{"a":"\\u001b\\u009b\\u202e\\ud800ü"}\n'


def test_help_explains_only_the_forms_that_a_command_has() -> None:
    assert "name is" not in labkeeper("status", "--help").out
    assert "name is" in labkeeper("machines", "list", "--help").out
