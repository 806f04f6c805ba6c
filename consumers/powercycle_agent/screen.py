"""How the commands about controllers write: columns for people, JSON for programs, nothing that a terminal would obey."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from consumers.powercycle_agent.plain_text import plain

TABLE: Final = "table"
JSON: Final = "json"

output_option = click.option(
    "--output",
    "-o",
    type=click.Choice([TABLE, JSON]),
    default=TABLE,
    show_default=True,
    help="table is for people; json is exact.",
)


def write_columns(rows: Sequence[Sequence[str]], *, write: Callable[[str], Any] = click.echo) -> None:
    """Write rows, the first of which is the heading. Whatever is not printable is spelled out."""
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def write_json(document: Any) -> None:
    """Write one JSON document, in ASCII."""
    click.echo(json.dumps(document, indent=2))


def tell(text: str) -> None:
    """Say something beside the answer: on standard error, a line for a line."""
    for line in text.splitlines():
        click.echo(plain(line), err=True)
