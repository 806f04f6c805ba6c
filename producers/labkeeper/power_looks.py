"""`labkeeper power get`, `list` and `history`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Final

import click
from rich.text import Text

from pipeline.clock import SystemClock
from producers.labkeeper.access import Access, facade_options
from producers.labkeeper.client import MACHINES, FacadeClient, Json
from producers.labkeeper.machine_ids import machine_ids
from producers.labkeeper.output import (
    Cell,
    Column,
    Fit,
    Form,
    output_option,
    tell,
    tell_terminal,
    write_json,
    write_lines,
    write_table,
)
from producers.labkeeper.per_machine import Outcomes
from producers.labkeeper.power_records import (
    HISTORY_COLUMNS,
    OUTLETS,
    commands,
    history_row,
    read_outlet,
    read_record,
    state_of,
    told_since,
)
from producers.labkeeper.text import ago, count_of, printable
from schemas.description import PowerCycleState
from schemas.ids import counting_order
from schemas.power import PowerOutlet

_COLUMNS: Final = (
    Column("MACHINE"),
    Column("CONTROLLER"),
    Column("PORT"),
    Column("AGENT", Fit.CUT),
    Column("STATE"),
    Column("TOLD"),
    Column("WHAT IS WRONG", Fit.WRAP),
)


@click.command("get")
@machine_ids()
@output_option(Form.TABLE, Form.JSON)
@facade_options
def get_command(access: Access, ids: Sequence[str], output: Form) -> None:
    """Say where machines' power comes from, and what became of the latest command.

    \b
      labkeeper power get rack4-07
    """
    outcomes = Outcomes()
    found = asyncio.run(_get(access, ids, outcomes))
    if output is Form.JSON:
        write_json([{"machine": name, **answer} for name, answer in found])
    else:
        now = SystemClock().now()
        write_lines(line for name, answer in found for line in _lines(name, answer, now))
    outcomes.finish()


async def _get(access: Access, ids: Sequence[str], outcomes: Outcomes) -> list[tuple[str, Json]]:
    async with FacadeClient(access) as facade:
        answers = [(name, await outcomes.attempt(facade.get(f"{MACHINES}/{name}/power"))) for name in ids]
    return [(name, answer) for name, answer in answers if answer is not None]


def _lines(name: str, answer: Json, now: datetime) -> list[str | Text]:
    lines: list[str | Text] = [name]
    if answer.get("outlet") is None:
        lines.append("  power       no agent has a port for it: see `labkeeper powercycle-agent --help`")
    else:
        outlet = read_outlet(answer["outlet"])
        port = f"port {outlet.port} of " if outlet.port else ""
        lines.append(f"  power       {port}{outlet.controller}, by agent {outlet.agent}")
        state, style = state_of(outlet, now)
        told = f", told {ago(outlet.reported_at, now)}" + (f": {outlet.text}" if outlet.text else "")
        lines.append(Text.assemble("  controller  ", (state, style), printable(told)))
    if answer.get("record") is not None:
        record = read_record(answer["record"])
        lines.append(f"  latest      {told_since(record, now)}" + (f": {record.text}" if record.text else ""))
        lines += [
            f"              {moment.at:%H:%M:%S}Z  {moment.status.value}"
            + (f" ({moment.text})" if moment.text else "")
            for moment in record.steps
        ]
    return lines


@click.command("list")
@click.argument("pattern", required=False)
@click.option("--in-error", is_flag=True, help="Only machines whose controller does not answer.")
@output_option()
@facade_options
def list_command(access: Access, pattern: str | None, in_error: bool, output: Form) -> None:
    """List where machines' power comes from: agent, controller and port, and whether the controller answers.

    PATTERN chooses machines by id, such as 'rack4-*'.

    \b
      labkeeper power list 'rack4-*' --in-error
    """
    documents = asyncio.run(_outlets(access))
    outlets = [
        outlet
        for outlet in sorted(map(read_outlet, documents), key=lambda each: counting_order(each.machine_id))
        if (pattern is None or fnmatchcase(outlet.machine_id, pattern))
        and (not in_error or outlet.state is PowerCycleState.IN_ERROR)
    ]
    match output:
        case Form.JSON:
            write_json([outlet.model_dump(mode="json") for outlet in outlets])
        case Form.NAME:
            write_lines(outlet.machine_id for outlet in outlets)
        case Form.TABLE if outlets:
            now = SystemClock().now()
            write_table(_COLUMNS, [_row(outlet, now) for outlet in outlets])
    if not documents:
        tell("No agent has told of any port yet: see `labkeeper powercycle-agent --help`.")
    elif not outlets:
        tell("No machine meets these conditions.")
    elif output is Form.TABLE:
        tell_terminal(count_of(len(outlets), "machine"))


async def _outlets(access: Access) -> list[Json]:
    async with FacadeClient(access) as facade:
        answer = await facade.get(OUTLETS)
    return list(answer.get("outlets") or [])


def _row(outlet: PowerOutlet, now: datetime) -> Sequence[str | Cell]:
    return (
        outlet.machine_id,
        outlet.controller,
        outlet.port,
        outlet.agent,
        Cell(*state_of(outlet, now)),
        ago(outlet.reported_at, now),
        outlet.text,
    )


@click.command("history")
@machine_ids(required=False)
@click.option("--pending", is_flag=True, help="Only commands that have not ended.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@output_option()
@facade_options
def history_command(access: Access, ids: Sequence[str], pending: bool, limit: int, output: Form) -> None:
    """List power commands and what became of them, newest first; of all machines, or of those named. Times are UTC.

    \b
      labkeeper power history rack4-07
      labkeeper power history --pending
    """
    documents = asyncio.run(_history(access, ids, pending=pending, limit=limit))
    match output:
        case Form.JSON:
            write_json(documents)
        case Form.NAME:
            write_lines(read_record(each).command.id for each in documents)
        case Form.TABLE if documents:
            write_table(HISTORY_COLUMNS, [history_row(read_record(each)) for each in documents])
    if not documents:
        tell("No power command is known." if not pending else "No power command is pending.")


async def _history(access: Access, ids: Sequence[str], *, pending: bool, limit: int) -> list[Json]:
    state = [("state", "pending")] if pending else []
    async with FacadeClient(access) as facade:
        if not ids:
            return await commands(facade, state, limit=limit)
        found = [
            each for name in ids for each in await commands(facade, [("machine", name), *state], limit=limit)
        ]
    return sorted(found, key=lambda each: read_record(each).command.id, reverse=True)[:limit]
