"""The configuration file: defaults for options, by command. What it does not understand, it refuses.

The command line beats the environment, the environment beats the file, the file beats the built-in default.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from pipeline.command import CommandFailed, ExitCode

SHARED: Final = (
    "url",
    "token-file",
    "database-url",
    "broker",
    "kafka-servers",
    "kafka-config",
    "pubsub-project",
    "topic-prefix",
    "log-level",
    "log-format",
    "output",
)
"""Keys that may stand above the tables: they hold for every command that has such an option."""

_NEVER: Final = ("help", "version", "yes")
"""Options that make no sense as a standing default."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration file that has been read. The table of a command is checked when that command is run."""

    path: Path
    shared: Mapping[str, Any]
    tables: Mapping[str, Any]

    def defaults_for(self, name: str, command: click.Command, ctx: click.Context) -> dict[str, Any]:
        """What click takes as `default_map` for the command. Raises `CommandFailed` for an unknown key."""
        return self._defaults(name, command, self.tables.get(name, {}), self.shared, ctx)

    def _defaults(
        self,
        place: str,
        command: click.Command,
        table: Mapping[str, Any],
        shared: Mapping[str, Any],
        ctx: click.Context,
    ) -> dict[str, Any]:
        options = _options_of(command)
        defaults = {options[key]: value for key, value in shared.items() if key in options}
        children = _children_of(command, ctx)
        for key, value in table.items():
            if isinstance(value, dict) if key in children else (children and key in SHARED):
                continue
            if key not in options:
                raise self._refuse(f"[{place}] knows no {key!r}", [*options, *children])
            defaults[options[key]] = value
        inherited = {**shared, **{key: value for key, value in table.items() if key in SHARED}}
        for child, its_command in children.items():
            defaults[child] = self._defaults(
                f"{place}.{child}", its_command, table.get(child, {}), inherited, ctx
            )
        return defaults

    def _refuse(self, what: str, known: Sequence[str]) -> CommandFailed:
        return CommandFailed(f"{self.path}: {what}; it takes {', '.join(known) or 'no keys'}", ExitCode.USAGE)


def read(path: Path, *, commands: Sequence[str]) -> Configuration:
    """Read and check the upper level. Raises `CommandFailed` for what is not TOML and for unknown keys and tables."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror}", ExitCode.USAGE) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{path} is not a TOML file: {error}", ExitCode.USAGE) from error
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    for name in tables:
        if name not in commands:
            raise CommandFailed(
                f"{path}: there is no command for the table [{name}]; there are {', '.join(commands)}",
                ExitCode.USAGE,
            )
    shared = {key: value for key, value in document.items() if key not in tables}
    for key in shared:
        if key not in SHARED:
            raise CommandFailed(
                f"{path}: {key!r} is not shared by several commands: put it into the table of its command, "
                f"or use one of {', '.join(SHARED)}",
                ExitCode.USAGE,
            )
    return Configuration(path, shared, tables)


def _options_of(command: click.Command) -> dict[str, str]:
    """Keys that a table of this command may have, and click's names for them."""
    return {
        spelling.lstrip("-"): option.name
        for option in command.params
        if isinstance(option, click.Option) and option.name is not None
        for spelling in option.opts
        if spelling.startswith("--") and spelling.lstrip("-") not in _NEVER
    }


def _children_of(command: click.Command, ctx: click.Context) -> dict[str, click.Command]:
    if not isinstance(command, click.Group):
        return {}
    found = {name: command.get_command(ctx, name) for name in command.list_commands(ctx)}
    return {name: child for name, child in found.items() if child is not None}
