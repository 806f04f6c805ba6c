"""`labkeeper machines list`, `show` and `history`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import click

from pipeline.clock import SystemClock
from pipeline.store.protocol import SortKey
from producers.labkeeper.access import Access, facade_options
from producers.labkeeper.client import MACHINES, FacadeClient, Json
from producers.labkeeper.machine_filters import Filters, filter_options
from producers.labkeeper.machine_ids import machine_id, machine_ids
from producers.labkeeper.machine_view import (
    COLUMNS,
    HISTORY_COLUMNS,
    details,
    history_row,
    id_of,
    read_entry,
    read_machine,
    row_of,
)
from producers.labkeeper.output import (
    Form,
    output_option,
    tell,
    tell_terminal,
    write_json,
    write_lines,
    write_table,
)
from producers.labkeeper.per_machine import Outcomes
from producers.labkeeper.text import count_of

_NO_MACHINES: Final = (
    "There are no machines yet: see `labkeeper monitor --help`, or try `labkeeper up --demo 50`."
)


@click.command("list")
@click.argument("words", nargs=-1)
@filter_options
@click.option(
    "--sort",
    type=click.Choice([key.value for key in SortKey]),
    default=SortKey.ID.value,
    show_default=True,
    help="What to sort by.",
)
@click.option("--desc", is_flag=True, help="Largest, or last, first.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many machines.  [default: all]")
@output_option()
@facade_options
def list_command(
    access: Access,
    words: Sequence[str],
    filters: Filters,
    sort: str,
    desc: bool,
    limit: int | None,
    output: Form,
) -> None:
    """List machines: all of them, or those that meet every condition given.

    WORDS are looked for, in any case, in ids, dimensions, notes and reasons.

    \b
      labkeeper machines list --health recovering --sort battery
      labkeeper machines list --where pool=Skia --where os=Android pixel
      labkeeper machines list --down -o name
    """
    conditions = [*filters, *([("q", " ".join(words))] if words else [])]
    order = [("sort", sort), ("order", "desc" if desc else "asc")]
    machines = asyncio.run(_listed(access, [*conditions, *order], limit))
    if not machines and not conditions:
        asyncio.run(
            _check_ready(access)
        )  # a lab that is not set up yet must not pass for one without machines
    _write_machines(machines, output)
    if not machines:
        tell("No machine meets these conditions." if conditions else _NO_MACHINES)
    elif output is Form.TABLE:
        tell_terminal(count_of(len(machines), "machine"))


async def _listed(access: Access, filters: Sequence[tuple[str, str]], limit: int | None) -> list[Json]:
    async with FacadeClient(access) as facade:
        return [machine async for machine in facade.machines(filters, limit=limit)]


async def _check_ready(access: Access) -> None:
    async with FacadeClient(access) as facade:
        await facade.check_ready()


def _write_machines(machines: Sequence[Json], output: Form) -> None:
    match output:
        case Form.JSON:
            write_json(machines)
        case Form.NAME:
            write_lines(map(id_of, machines))
        case Form.TABLE if machines:
            now = SystemClock().now()
            write_table(COLUMNS, [row_of(read_machine(machine), now) for machine in machines])
        case Form.TABLE:
            pass


@click.command("show")
@machine_ids()
@output_option()
@facade_options
def show_command(access: Access, ids: Sequence[str], output: Form) -> None:
    """Show all that is known about one or several machines.

    With -o json one machine is an object, several are a list.

    \b
      labkeeper machines show rack4-07
      labkeeper machines show rack4-07 -o json | jq .Battery
    """
    outcomes = Outcomes()
    machines = asyncio.run(_shown(access, ids, outcomes))
    if output is Form.TABLE:
        now = SystemClock().now()
        for machine in machines:
            write_lines(details(read_machine(machine), now))
    elif output is Form.NAME or len(ids) > 1:
        _write_machines(machines, output)
    elif machines:
        write_json(machines[0])
    outcomes.finish()


async def _shown(access: Access, ids: Sequence[str], outcomes: Outcomes) -> list[Json]:
    async with FacadeClient(access) as facade:
        found = [await outcomes.attempt(facade.get(f"{MACHINES}/{name}")) for name in ids]
    return [machine for machine in found if machine is not None]


@click.command("history")
@machine_id()
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many entries."
)
@click.option("--all", "everything", is_flag=True, help="All entries that are still kept.")
@output_option()
@facade_options
def history_command(access: Access, machine_id: str, limit: int, everything: bool, output: Form) -> None:
    """Say what happened to a machine, newest first: what changed, from what to what, who did it and why.

    Heartbeats are not history. Times are UTC. A machine that was deleted keeps its history for a while.

    \b
      labkeeper machines history rack4-07
    """
    entries = asyncio.run(_history(access, machine_id, None if everything else limit))
    match output:
        case Form.JSON:
            write_json(entries)
        case Form.NAME:
            write_lines(str(entry.get("id", "")) for entry in entries)
        case Form.TABLE if entries:
            write_table(HISTORY_COLUMNS, [history_row(read_entry(entry)) for entry in entries])
    if not entries:
        tell(f"Nothing is known to have happened to {machine_id}.")
    elif len(entries) == limit and not everything:
        tell_terminal(f"These are the last {limit}; --all shows all.")


async def _history(access: Access, name: str, limit: int | None) -> list[Json]:
    async with FacadeClient(access) as facade:
        return [entry async for entry in facade.history(name, limit=limit)]
