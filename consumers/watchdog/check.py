"""`labkeeper heal check`: would the watchdog take this policy, and what does each pool get?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from consumers.watchdog.policy_source import PolicySource
from pipeline.command import CommandFailed, ExitCode
from pipeline.errors import Misconfigured
from pipeline.healing.policy import EVERY_POOL
from pipeline.healing.policy_file import document_of

_TABLE: Final = "table"
_JSON: Final = "json"


@click.command("check")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Choice([_TABLE, _JSON]),
    default=_TABLE,
    show_default=True,
    help="table is for people; json is exact.",
)
def check_command(file: Path, *, output: str) -> None:
    """Say what a policy gives each pool, and what is wrong with it. Nothing is asked, nothing is done.

    Exit code 2: the file is wrong.

    \b
      labkeeper heal check /etc/labkeeper/healing.json5
    """
    try:
        document = document_of(PolicySource(file).policies)
    except Misconfigured as error:
        raise CommandFailed(str(error), ExitCode.USAGE) from error
    if output == _JSON:
        click.echo(json.dumps(document, indent=2))
    else:
        _write(document)


def _write(document: Mapping[str, Any]) -> None:
    click.echo(
        f"Nothing is cycled while more than {document['lab_percent']:g} % of the fleet, or of a rack, was lost within "
        f"{document['outage_span']}."
    )
    pools = document["pools"]
    for pool, entry in pools.items():
        click.echo(
            f"\n{'every other pool' if pool == EVERY_POOL else f'pool {pool!r}'}: {_what_is_done(entry)}"
        )
        if entry["enabled"]:
            width = max(map(len, entry))
            for key, value in entry.items():
                if not isinstance(value, bool):
                    click.echo(f"  {key:<{width}}  {value}")
    if EVERY_POOL not in pools:
        click.echo("\nevery other pool: self-healing is off")


def _what_is_done(entry: Mapping[str, Any]) -> str:
    if not entry["enabled"]:
        return "self-healing is off"
    return "dry run, it is only said what would be done" if entry["dry_run"] else "self-healing is on"
