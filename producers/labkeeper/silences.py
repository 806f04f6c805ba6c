"""`labkeeper silences`: who wants to hear nothing about which machines, and until when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import click

from pipeline.clock import SystemClock
from producers.labkeeper.access import Access, facade_options
from producers.labkeeper.client import FacadeClient, Json
from producers.labkeeper.documents import read_as
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
from producers.labkeeper.per_machine import Outcomes
from producers.labkeeper.spans import Span
from producers.labkeeper.umbrella import GuessingGroup
from schemas.silence import Silence
from schemas.wire import format_time

_SILENCES: Final = "/api/v1/silences"
_LONGEST: Final = timedelta(days=365)
"""What the façade takes."""
_COLUMNS: Final = (
    Column("ID"),
    Column("MACHINES"),
    Column("POOLS"),
    Column("UNTIL"),
    Column("OWNER", Fit.CUT),
    Column("REASON", Fit.WRAP),
)


@click.group("silences", cls=GuessingGroup)
def command() -> None:
    """Say about which machines nobody shall be told, and until when.

    \b
      labkeeper silences add --machine 'rack4-*' --for 2h --reason "new switch"
      labkeeper silences list
    """


@command.command("add")
@click.option("--machine", metavar="PATTERN", help="Machines by id, such as 'rack4-*'.")
@click.option("--pool", metavar="PATTERN", help="Machines by pool.")
@click.option(
    "--for", "span", required=True, type=Span(longest=_LONGEST), metavar="SPAN", help="Such as 30m, 2h, 3d."
)
@click.option("--reason", "-r", required=True, help="Why, for whoever wonders.")
@facade_options
def add_command(access: Access, machine: str | None, pool: str | None, span: timedelta, reason: str) -> None:
    """Begin a silence in your name. Both patterns must match; `*` stands for anything.

    \b
      labkeeper silences add --pool Phones --for 30m --reason "battery day"
    """
    if machine is None and pool is None:
        raise click.UsageError("Say which machines: --machine or --pool (--machine '*' means all of them).")
    body = {
        "machine": machine or "*",
        "pool": pool or "*",
        "reason": reason,
        "ends_in_s": span.total_seconds(),
    }
    silence = _read(asyncio.run(_add(access, body)))
    write(f"{silence.id}: silent until {format_time(silence.ends_at.replace(microsecond=0))}\n")


async def _add(access: Access, body: Json) -> Json:
    async with FacadeClient(access) as facade:
        return await facade.post(_SILENCES, body)


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that have ended, of the last 90 days.")
@output_option()
@facade_options
def list_command(access: Access, everything: bool, output: Form) -> None:
    """List silences that last.

    \b
      labkeeper silences list --all
    """
    documents = asyncio.run(_list(access, everything=everything))
    silences = [_read(each) for each in documents]
    match output:
        case Form.JSON:
            write_json(documents)
        case Form.NAME:
            write_lines(silence.id for silence in silences)
        case Form.TABLE if silences:
            write_table(_COLUMNS, [_row(silence) for silence in silences])
    if not silences:
        tell("There is no silence.")


async def _list(access: Access, *, everything: bool) -> list[Json]:
    async with FacadeClient(access) as facade:
        answer = await facade.get(_SILENCES, [("all", "true")] if everything else [])
    return list(answer.get("silences") or [])


def _row(silence: Silence) -> Sequence[str | Cell]:
    ended = silence.ends_at <= SystemClock().now()
    until = format_time(silence.ends_at.replace(microsecond=0))
    return (
        silence.id,
        silence.machine,
        silence.pool,
        Cell(until, "dim" if ended else ""),
        silence.owner,
        silence.reason,
    )


@command.command("end")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@facade_options
def end_command(access: Access, ids: Sequence[str]) -> None:
    """End silences now, by the ids that `list` shows.

    \b
      labkeeper silences end 01M819NQ0B3ZYYAEDQPRATPG1R
    """
    outcomes = Outcomes()
    asyncio.run(_end(access, ids, outcomes))
    outcomes.finish()


async def _end(access: Access, ids: Sequence[str], outcomes: Outcomes) -> None:
    async with FacadeClient(access) as facade:
        for silence_id in ids:
            if not silence_id.isalnum():
                raise click.UsageError(f"{silence_id!r} is no silence: see `labkeeper silences list`.")
            if await outcomes.attempt(facade.delete(f"{_SILENCES}/{silence_id}")) is not None:
                write(f"{silence_id}: ended\n")


def _read(document: Json) -> Silence:
    return read_as(Silence, document, "a silence")
