"""`labkeeper up`: everything a lab needs, on this computer, with one command."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

import click

from pipeline import command as commands
from pipeline.clock import SystemClock
from pipeline.command import CommandFailed, ExitCode, run
from pipeline.errors import Misconfigured
from pipeline.settings import check_open_door
from producers.labkeeper.catalogue import FILE_CHECKS
from producers.labkeeper.home_lab import default_folder
from producers.labkeeper.roles import LabSettings
from producers.labkeeper.screen import Screen
from producers.labkeeper.umbrella import check_file

_TOKEN_VARIABLES: Final = ("LABKEEPER_TOKEN", "LABKEEPER_TOKEN_FILE")


@click.command("up")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="LABKEEPER_DATA",
    default=default_folder,
    show_default="this user's folder for data",
    show_envvar=True,
    help="Folder for the database and the logs; made if missing.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Other computers can reach any but a loopback address, so those need --tokens.",
)
@click.option(
    "--port", type=click.IntRange(1, 65_535), default=8000, show_default=True, help="Port to listen on."
)
@click.option(
    "--demo",
    type=click.IntRange(0, 100_000),
    default=0,
    metavar="MACHINES",
    help="Add so many simulated machines.",
)
@click.option("--no-monitor", is_flag=True, help="Do not report this computer as a machine.")
@click.option(
    "--tokens",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="LABKEEPER_TOKENS",
    show_envvar=True,
    help="File with the API tokens' hashes; see `labkeeper token --help`.  [default: everybody on this computer is let in]",
)
@commands.pool_option
@click.option(
    "--period",
    type=click.FloatRange(0.1, 86_400),
    default=30.0,
    show_default=True,
    help="Seconds between two reports of a machine, for this computer's monitor, simulated machines and the watchdog.",
)
@commands.pool_period_option
@click.option(
    "--powercycle-config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Start a power agent for the controllers of this file, such as /etc/powercycle.json5; see "
    "`labkeeper power check --help`.",
)
@click.option(
    "--heal-policy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="LABKEEPER_HEAL_POLICY",
    show_envvar=True,
    help="Power-cycle machines in trouble, as this file says; see docs/healing.md.  [default: none]",
)
@click.option(
    "--notifier-config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="LABKEEPER_NOTIFIER_CONFIG",
    show_envvar=True,
    help="Tell people what happens, as this file says; see docs/notifications.md.",
)
@click.option("--verbose", is_flag=True, help="Show everything that the processes log, not only trouble.")
def command(
    data: Path,
    host: str,
    port: int,
    demo: int,
    no_monitor: bool,
    tokens: Path | None,
    pool: tuple[str, ...],
    period: float,
    pool_period: Mapping[str, timedelta],
    powercycle_config: Path | None,
    heal_policy: Path | None,
    notifier_config: Path | None,
    verbose: bool,
) -> None:
    """Run a whole lab on this computer: database, services, web page, and a monitor that reports the computer itself.

    Ctrl-C ends all of it; the next start finds everything as it was.

    \b
      labkeeper up
      labkeeper up --demo 200 --data ./lab --port 8080
      labkeeper up --powercycle-config /etc/powercycle.json5 --heal-policy heal.json5
      labkeeper up --pool Phones=^phone- --pool Lab= --pool-period Phones=60
    """
    if sys.platform == "win32":
        raise CommandFailed(
            "`up` needs Linux or macOS (on Windows: inside WSL); `labkeeper monitor` runs here too"
        )
    from producers.labkeeper.lab import run_lab  # noqa: PLC0415  # imports what Windows does not have

    commands.pools_of(pool)
    if tokens is None:
        check_open_door(host)
    settings = LabSettings(
        data=data,
        host=host,
        port=port,
        demo=demo,
        monitor=not no_monitor,
        tokens=tokens,
        verbose=verbose,
        pools=pool,
        period_s=period,
        pool_periods=tuple(f"{name}={each.total_seconds()}" for name, each in pool_period.items()),
        power_config=powercycle_config,
        heal_policy=heal_policy,
        notifier_config=notifier_config,
    )
    _check_token(settings)
    _check_files(
        {
            "powercycle_config": powercycle_config,
            "heal_policy": heal_policy,
            "notifier_config": notifier_config,
        }
    )
    run_lab(settings, Screen(SystemClock(), verbose=verbose))


def _check_token(settings: LabSettings) -> None:
    """Where tokens are wanted, our own monitor and simulator need one too; they find it in the environment."""
    needed = settings.tokens is not None and (settings.monitor or settings.demo)
    if needed and not any(os.environ.get(name) for name in _TOKEN_VARIABLES):
        raise CommandFailed(
            "with --tokens the computer's own monitor and the simulator need a token as well: make one with `labkeeper "
            f"token new --role operator --name up --file {settings.tokens}` and put it into {_TOKEN_VARIABLES[0]}",
            ExitCode.USAGE,
        )


def _check_files(files: Mapping[str, Path | None]) -> None:
    """A service that does not take its file would end again and again: better nothing starts."""
    refusals = []
    for setting, file in files.items():
        if file is not None:
            try:
                check_file(FILE_CHECKS[setting], file)
            except Misconfigured as error:
                refusals.append(str(error))
    if refusals:
        raise CommandFailed("\n".join(refusals), ExitCode.USAGE)


if __name__ == "__main__":
    run(command)
