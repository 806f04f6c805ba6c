"""The `labkeeper` command: one name for everything a lab needs. Starts fast, loads only what is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from pipeline.command import CommandFailed, run
from producers.labkeeper import catalogue, configuration
from producers.labkeeper.umbrella import LazyGroup

PROGRAM: Final = "labkeeper"

_HELP: Final = """Labkeeper keeps a hardware test lab.

It knows the state of every machine and device, notices which ones fail or fall silent, and lets people and programs
watch and change them.

\b
  labkeeper up --demo 50          run a lab here, with 50 simulated machines
  labkeeper machines list --down  ask which machines are silent
  labkeeper machines watch        see what happens while it happens

Every command explains itself: labkeeper COMMAND --help.
"""

_EPILOG: Final = """\b
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 not found,
4 denied, 5 conflict, 6 timed out, 7 unreachable.
More to read: README.md and docs/ in the source; http://127.0.0.1:8000/docs
describes the HTTP API while `labkeeper up` runs.
"""


class Umbrella(LazyGroup):
    """The top group: it also spreads the configuration file over the commands."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, and give it its part of the configuration file."""
        name, command, rest = super().resolve_command(ctx, args)
        file: configuration.Configuration | None = ctx.obj
        if name is not None and command is not None and file is not None:
            with _lenient(ctx):
                ctx.default_map = {name: file.defaults_for(name, command, ctx)}
        return name, command, rest


def _read_configuration(ctx: click.Context, _option: click.Parameter, path: Path | None) -> None:
    if path is not None:
        with _lenient(ctx):
            ctx.obj = configuration.read(path, commands=[entry.name for entry in catalogue.COMMANDS])


@contextmanager
def _lenient(ctx: click.Context) -> Iterator[None]:
    """While the shell completes a half-typed line, nobody wants to hear about a mistake in the file."""
    try:
        yield
    except CommandFailed:
        if not ctx.resilient_parsing:
            raise


def _show_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"{PROGRAM} {installed_version()}")
        ctx.exit()


def installed_version() -> str:
    """The version of the installed package."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  # slow to import, rarely asked

    try:
        return version(PROGRAM)
    except PackageNotFoundError as error:
        raise CommandFailed(
            "it runs from a source tree that is not installed, so it has no version"
        ) from error


@click.group(
    PROGRAM,
    cls=Umbrella,
    entries=catalogue.COMMANDS,
    help=_HELP,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="LABKEEPER_CONFIG",
    show_envvar=True,
    is_eager=True,
    expose_value=False,
    callback=_read_configuration,
    help="TOML file with defaults for options: a [command] or [command.subcommand] table each, and keys that many "
    "commands share (such as url or database-url) above them.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def umbrella(**_options: Any) -> None:
    """See `_HELP`."""


def main() -> NoReturn:
    """Run the command line of this process to its end and exit."""
    run(umbrella, name=PROGRAM)


if __name__ == "__main__":
    main()
