"""A group of commands that are imported only when they are run, listed by section, with a guess at what a typo meant."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from click.shell_completion import CompletionItem

from pipeline.command import CommandFailed
from producers.labkeeper.catalogue import Entry


class GuessingGroup(click.Group):
    """A group that answers a typo with what was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or fail with the names that come close."""
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-") and not ctx.resilient_parsing:
            ctx.fail(_unknown(args[0], names))
        return super().resolve_command(ctx, args)


def _unknown(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.6)
    close = close or [known for known in names if known.startswith(name.lower())]
    guess = f" Did you mean {' or '.join(close)}?" if close else ""
    return f"There is no command {name!r}.{guess}"


class LazyGroup(GuessingGroup):
    """Shows help, and completes names, from the catalogue alone."""

    def __init__(self, *, entries: Sequence[Entry], **attributes: Any) -> None:
        super().__init__(**attributes)
        self._entries = {entry.name: entry for entry in entries}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Names in the catalogue's order."""
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command; None when the catalogue has no such name."""
        entry = self._entries.get(cmd_name)
        return None if entry is None else load(entry)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Commands first: they are what a reader looks for."""
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """One block a section."""
        width = max(len(name) for name in self._entries)
        for section, entries in groupby(self._entries.values(), key=lambda entry: entry.section):
            with formatter.section(section):
                formatter.write_dl([(entry.name.ljust(width), entry.help) for entry in entries])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names and help from the catalogue, options from click."""
        names = [
            CompletionItem(entry.name, help=entry.help)
            for entry in self._entries.values()
            if entry.name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]


def load(entry: Entry) -> click.Command:
    """Import a command. A missing library is named in one sentence."""
    command = getattr(_imported(entry.module, entry.name), entry.attribute)
    if not isinstance(command, click.Command):
        raise TypeError(f"{entry.module}.{entry.attribute} is not a command")
    return command


def check_file(module: str, path: Path) -> None:
    """Ask a service whether it would begin with this file. Raises `Misconfigured`."""
    _imported(module, module).check_file(path)


def _imported(module: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise CommandFailed(
            f"`{name}` cannot be loaded: Python module {error.name!r} is not installed here"
        ) from error
