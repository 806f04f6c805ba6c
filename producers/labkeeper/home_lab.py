"""The lab that `labkeeper up` runs on this computer, found by its folder: nobody needs to know its database's address."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import platformdirs
from click.core import ParameterSource

from pipeline import command as commands
from pipeline.command import CommandFailed, ExitCode
from pipeline.settings import BrokerKind

FROM_MAKE: Final = Path(".labkeeper")
"""Where `make run` keeps its lab, seen from the source tree."""


def default_folder() -> Path:
    """Where `labkeeper up` keeps its lab unless told otherwise."""
    return platformdirs.user_data_path("labkeeper")


data_option: Final = click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="LABKEEPER_DATA",
    show_envvar=True,
    help="Without --database-url: the folder of a lab that runs on this computer.  "
    "[default: the usual ones of `labkeeper up` and `make run`]",
)
"""Goes with a `--database-url` that is not required; `database_meant` makes an address of the two."""


def database_meant(database_url: str | None, data: Path | None) -> str:
    """Address of the database that the running command shall use. Raises `CommandFailed` when there is none.

    What was typed beats what the environment says; apart from that an address beats a folder.
    """
    if not database_url:
        return database_of_lab(data)
    source_of = click.get_current_context().get_parameter_source
    if source_of("data") is not ParameterSource.COMMANDLINE:
        return database_url
    if source_of("database_url") is ParameterSource.COMMANDLINE:
        raise click.UsageError("Give --data or --database-url, not both.")
    return database_of_lab(data)


def database_of_lab(data: Path | None) -> str:
    """Address of the database of the lab that runs in `data`; with None, in one of the folders that labs are usually in.

    Raises `CommandFailed` when none runs, or when it is not clear which is meant.
    """
    folders = (FROM_MAKE, default_folder()) if data is None else (data,)
    found = {url: folder for folder in folders if (url := _database_in(folder)) is not None}
    if len(found) > 1:
        both = " and in ".join(str(folder) for folder in found.values())
        raise CommandFailed(f"labs run in {both}: say with --data which you mean", ExitCode.USAGE)
    if found:
        return next(iter(found))
    where = " or ".join(str(folder) for folder in folders)
    raise CommandFailed(
        f"no lab runs in {where} (is `labkeeper up --data {data or 'DIR'}` running?): "
        "name its folder with --data, or its database with --database-url",
        ExitCode.UNREACHABLE,
    )


def _database_in(folder: Path) -> str | None:
    if sys.platform == "win32":  # where `up` does not run
        return None
    from infra.servers.postgres import running_dsn  # noqa: PLC0415  # imports what Windows does not have
    from producers.labkeeper.premises import Premises  # noqa: PLC0415  # the same

    try:
        return running_dsn(Premises(folder, crashed_predecessor=False).database)
    except OSError as error:
        raise CommandFailed(
            f"cannot see whether a lab runs in {folder} ({error.strerror}): ask as the user who runs it",
            ExitCode.DENIED,
        ) from error


def broker_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where the broker is; the command gets them as its first argument."""

    @data_option
    @commands.publishing_options
    @functools.wraps(function)
    def with_place(*args: Any, data: Path | None, **options: Any) -> Any:
        if options["broker"] == BrokerKind.EMBEDDED:
            options["database_url"] = database_meant(options["database_url"], data)
        return function(commands.take_connections(options), *args, **options)

    return with_place
