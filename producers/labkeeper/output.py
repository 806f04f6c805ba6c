"""How answers are written: a table for people, JSON for programs, names for the next command in a pipe.

On a terminal a table fits its width. Anywhere else nothing is cut, coloured or wrapped: one row a line.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from producers.labkeeper.text import printable, printable_json

_UNBOUNDED: Final = 100_000
"""Columns; wider than any row."""


class Form(StrEnum):
    """What a listing is written as."""

    TABLE = "table"
    JSON = "json"
    NAME = "name"


def output_option(*forms: Form) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `--output`, with the given forms (all of them by default). The command gets a `Form`."""
    return click.option(
        "--output",
        "-o",
        type=click.Choice([form.value for form in forms or Form]),
        callback=lambda _context, _option, value: Form(value),
        default=Form.TABLE.value,
        show_default=True,
        help="table is for people, json is exact, name is one name a line.",
    )


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    whole: bool = True
    """Never cut. Others give way when the terminal is narrow."""
    right: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """Text with a rich style."""

    text: str
    style: str = ""


def write_table(columns: Sequence[Column], rows: Iterable[Sequence[str | Cell]]) -> None:
    """Write rows under a heading."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            column.title,
            no_wrap=True,
            overflow="ignore" if column.whole else "ellipsis",
            justify="right" if column.right else "left",
        )
    for row in rows:
        table.add_row(*map(_as_text, row))
    width = shutil.get_terminal_size().columns
    _write(_fitted(table, columns, width) if sys.stdout.isatty() else table, width)


def write_lines(lines: Iterable[str | Text]) -> None:
    """Write lines as they are; a terminal wraps them itself."""
    for line in lines:
        _write(line if isinstance(line, Text) else Text(printable(line)), _UNBOUNDED)


def write_json(document: Any, *, compact: bool = False) -> None:
    """Write one JSON document, exactly; `compact` keeps it on one line."""
    text = json.dumps(
        document,
        ensure_ascii=(sys.stdout.encoding or "").lower().replace("-", "") != "utf8",
        indent=None if compact else 2,
        separators=(",", ":") if compact else None,
    )
    click.echo(printable_json(text))


def tell(text: str) -> None:
    """Say something to the person, beside the answer: on standard error."""
    click.echo(text, err=True)


def tell_terminal(text: str) -> None:
    """Say something only a person at a terminal wants to hear."""
    if sys.stdout.isatty():
        tell(text)


def _as_text(cell: str | Cell) -> Text:
    if isinstance(cell, Cell):
        return Text(printable(cell.text), style=cell.style)
    return Text(printable(cell))


def _fitted(table: Table, columns: Sequence[Column], width: int) -> Table:
    """Let whole columns keep their width, as long as the others keep a readable rest."""
    measured = [max((len(str(cell)) for cell in column.cells), default=0) for column in table.columns]
    wanted = [max(natural, len(column.title)) for natural, column in zip(measured, columns, strict=True)]
    kept = sum(size + 2 for size, column in zip(wanted, columns, strict=True) if column.whole)
    if kept + 10 * sum(not column.whole for column in columns) <= width:
        for shown, size, column in zip(table.columns, wanted, columns, strict=True):
            if column.whole:
                shown.min_width = size
    else:
        for shown in table.columns:
            shown.no_wrap = False
            shown.overflow = "fold"
    return table


def _write(renderable: RenderableType, width: int) -> None:
    terminal = sys.stdout.isatty()
    buffer = io.StringIO()
    console = Console(
        file=buffer, force_terminal=terminal, width=width if terminal else _UNBOUNDED, highlight=False
    )
    console.print(renderable, soft_wrap=isinstance(renderable, Text))
    text = buffer.getvalue()
    if not terminal:
        text = "\n".join(line.rstrip() for line in text.split("\n"))
    click.echo(text, nl=False)
