"""How answers are written: a table for people, JSON for programs, names for the next command in a pipe.

On a terminal a table fits its width. Anywhere else nothing is cut, coloured or wrapped: a row is a line.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Final

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from producers.labkeeper.text import printable, printable_json

_UNBOUNDED: Final = 1_000_000
"""Characters; longer than any line."""
_GAP: Final = 2
"""Characters between two columns."""
_READABLE: Final = 8
"""Characters that a column keeps at least."""


class Form(StrEnum):
    """What a listing is written as."""

    TABLE = "table"
    JSON = "json"
    NAME = "name"


_FORM_HELP: Final = {
    Form.TABLE: "table is for people",
    Form.JSON: "json is exact",
    Form.NAME: "name is one name a line",
}


def output_option(*forms: Form) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `--output`, with the given forms (all of them by default). The command gets a `Form`."""
    return click.option(
        "--output",
        "-o",
        type=click.Choice([form.value for form in forms or Form]),
        callback=lambda _context, _option, value: Form(value),
        default=Form.TABLE.value,
        show_default=True,
        help="; ".join(_FORM_HELP[form] for form in forms or Form) + ".",
    )


class Fit(Enum):
    """What becomes of a column's text when the terminal is too narrow for it."""

    WHOLE = "whole"
    """It stays."""
    CUT = "cut"
    WRAP = "wrap"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    fit: Fit = Fit.WHOLE
    right: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """Text with a rich style."""

    text: str
    style: str = ""


def write_table(columns: Sequence[Column], rows: Iterable[Sequence[str | Cell]]) -> None:
    """Write rows under a heading."""
    cells = [[_as_text(cell) for cell in row] for row in rows]
    natural = [
        max(len(column.title), *(row[index].cell_len for row in cells), 0)
        for index, column in enumerate(columns)
    ]
    terminal = sys.stdout.isatty()
    widths = _fitted(columns, natural, shutil.get_terminal_size().columns) if terminal else natural
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            column.title,
            width=width,
            no_wrap=column.fit is not Fit.WRAP,
            overflow="fold" if column.fit is Fit.WRAP else "ellipsis",
            justify="right" if column.right else "left",
        )
    for row in cells:
        table.add_row(*row)
    _write(table, sum(widths) + _GAP * len(widths))


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
    write(printable_json(text) + "\n")


def write(text: str | bytes) -> None:
    """Write a piece of the answer as it is. Ends the command, with success, when the reader has seen enough."""
    try:
        click.echo(text, nl=False)
    except BrokenPipeError as error:  # click would take it for a failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(0) from error


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


def _fitted(columns: Sequence[Column], natural: Sequence[int], available: int) -> list[int]:
    """Widths of the columns: what is left beside the whole ones is shared out, and nobody gets more than it needs.

    On a terminal that is too narrow even so, the lines become longer than it rather than unreadable.
    """
    widths = list(natural)
    elastic = [index for index, column in enumerate(columns) if column.fit is not Fit.WHOLE]
    left = available - _GAP * (len(columns) - 1) - sum(natural) + sum(natural[index] for index in elastic)
    elastic.sort(key=lambda index: natural[index])
    for position, index in enumerate(elastic):
        share = left // (len(elastic) - position)
        widths[index] = min(natural[index], max(share, _READABLE))
        left -= widths[index]
    return widths


def _write(renderable: RenderableType, width: int) -> None:
    terminal = sys.stdout.isatty()
    buffer = io.StringIO()
    console = Console(file=buffer, force_terminal=terminal, width=width, highlight=False)
    console.print(renderable, soft_wrap=isinstance(renderable, Text))
    lines = buffer.getvalue().split("\n")
    write("\n".join(line.rstrip() for line in lines))
