"""`labkeeper db`: brings the database's tables to what this version needs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from pipeline.command import CommandFailed, ExitCode, database_option
from pipeline.store import migrations
from pipeline.store.faults import CONNECTION
from pipeline.store.migrations import MigrationStatus, Phase
from producers.labkeeper.home_lab import data_option, database_meant
from producers.labkeeper.output import (
    Cell,
    Column,
    Fit,
    Form,
    output_option,
    tell,
    write,
    write_json,
    write_lines,
    write_table,
)
from producers.labkeeper.text import count_of
from producers.labkeeper.umbrella import GuessingGroup
from schemas.wire import format_time

_COLUMNS: Final = (Column("MIGRATION"), Column("STATE"), Column("APPLIED AT"), Column("PROBLEM", Fit.WRAP))


@click.group("db", cls=GuessingGroup)
def command() -> None:
    """Prepare the database, or bring it to what this version of Labkeeper needs.

    `labkeeper up` does it by itself. With a database of your own, run it before a new version starts.

    \b
      labkeeper db status --database-url postgresql:///labkeeper
      labkeeper db migrate --database-url postgresql:///labkeeper
    """


@command.command("migrate", short_help="Apply the migrations that are pending.")
@click.option(
    "--phase",
    type=click.Choice([phase.value for phase in Phase]),
    default=Phase.ALL.value,
    show_default=True,
    help="pre: what the new version needs, while the old one still runs. all: what only suits the new one, too.",
)
@data_option
@database_option(required=False)
def migrate_command(phase: str, database_url: str | None, data: Path | None) -> None:
    """Apply the migrations that are pending. Safe to run twice, and from several places at once.

    To upgrade without a break: `--phase pre`, then replace the services, then once more for all.

    \b
      labkeeper db migrate --phase pre
    """
    url = database_meant(database_url, data)
    applied = migrations.migrate(url, phase=Phase(phase), on_retry=_PatienceTold())
    for name in applied:
        write(f"{name}: applied\n")
    if not applied:
        tell("There is nothing to do.")


class _PatienceTold:
    """Says, once, that the database is away and waited for."""

    def __init__(self) -> None:
        self._is_told = False

    def __call__(self, reason: str, fault: str) -> None:
        if reason == CONNECTION and not self._is_told:
            self._is_told = True
            tell(f"The database cannot be reached, trying again for half a minute: {fault}")


@command.command("status", short_help="Say which migrations are pending.")
@output_option()
@data_option
@database_option(required=False)
def status_command(database_url: str | None, data: Path | None, output: Form) -> None:
    """Say which migrations are applied and which are pending. Changes nothing.

    Exit code 0: all are applied. 1: some are pending. 5: database and program do not fit together.

    \b
      labkeeper db status || labkeeper db migrate
    """
    found = migrations.status(database_meant(database_url, data))
    match output:
        case Form.JSON:
            write_json([_document(migration) for migration in found])
        case Form.NAME:
            write_lines(migration.name for migration in found)
        case Form.TABLE:
            write_table(_COLUMNS, [_row(migration) for migration in found])
    problems = [migration for migration in found if migration.problem]
    pending = [migration for migration in found if migration.applied_at is None]
    if problems:
        raise CommandFailed(f"{problems[0].name}: {problems[0].problem}", ExitCode.CONFLICT)
    if pending:
        raise CommandFailed(f"{count_of(len(pending), 'migration')} pending: run `labkeeper db migrate`")


def _row(migration: MigrationStatus) -> tuple[str, Cell, str, str]:
    applied = (
        "-" if migration.applied_at is None else format_time(migration.applied_at.replace(microsecond=0))
    )
    return (migration.name, _state(migration), applied, migration.problem or "-")


def _state(migration: MigrationStatus) -> Cell:
    if migration.problem:
        return Cell("problem", "red")
    return Cell("pending", "yellow") if migration.applied_at is None else Cell("applied", "green")


def _document(migration: MigrationStatus) -> dict[str, str | None]:
    return {
        "name": migration.name,
        "applied_at": None if migration.applied_at is None else format_time(migration.applied_at),
        "problem": migration.problem or None,
    }
