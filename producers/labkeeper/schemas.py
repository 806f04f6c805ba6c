"""`labkeeper schemas`: the message contracts as JSON Schemas and an AsyncAPI document."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import click

from pipeline.command import CommandFailed
from schemas.documents import documents

_folder = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))


@click.group()
def command() -> None:
    """Write the message contracts down for programs that are not ours.

    JSON Schemas of every message and an AsyncAPI 3 document of the topics, made from the models that the services run.

    \b
      labkeeper schemas write docs/contracts
      labkeeper schemas check docs/contracts
    """


@command.command()
@_folder
def write(folder: Path) -> None:
    """Write all documents into FOLDER."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in documents(version("labkeeper")).items():
            (folder / name).write_text(content, encoding="utf-8")
            click.echo(str(folder / name))
    except OSError as error:
        raise CommandFailed(f"cannot write into {folder}: {error.strerror}") from error


@command.command()
@_folder
def check(folder: Path) -> None:
    """Exit with 1 when a document in FOLDER is missing or stale."""
    stale = [
        name for name, content in documents(version("labkeeper")).items() if _read(folder / name) != content
    ]
    if stale:
        raise CommandFailed(f"stale: {', '.join(stale)}; run `labkeeper schemas write {folder}`")
    click.echo("up to date")


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
