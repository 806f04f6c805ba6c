"""`labkeeper power cycle`, `on`, `off` and `cancel`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import click

from pipeline.command import CommandFailed, ExitCode
from producers.labkeeper.access import Access, facade_options
from producers.labkeeper.client import MACHINES, FacadeClient
from producers.labkeeper.confirmation import confirm
from producers.labkeeper.machine_filters import Filters, filter_options
from producers.labkeeper.machine_ids import machine_ids
from producers.labkeeper.machine_view import id_of
from producers.labkeeper.output import Form, output_option, tell, write, write_json
from producers.labkeeper.per_machine import Outcomes
from producers.labkeeper.power_records import (
    COMMANDS,
    commands,
    outlets_of,
    read_record,
    waits_for_agents,
)
from producers.labkeeper.spans import Span
from producers.labkeeper.text import count_of, printable
from schemas.api import LONGEST_POWER_EXPIRY_S, POWER_EXPIRY_S, SHORTEST_POWER_EXPIRY_S
from schemas.ids import new_ulid
from schemas.power import MAX_DELAY_S, PowerAction, PowerRecord, PowerStatus
from schemas.spans import span_text

_LOOK_EVERY_S: Final = 0.25
_PASSES: Final = frozenset({ExitCode.UNREACHABLE, ExitCode.TIMED_OUT})
"""What may be wrong with a façade for a while, such as while it starts anew."""
_AT_ONCE: Final = 8
_MOST_NAMED: Final = 5
_DOING: Final = {
    PowerAction.CYCLE: "Cycle the power of",
    PowerAction.ON: "Switch on the power of",
    PowerAction.OFF: "Switch off the power of",
}


@dataclass(frozen=True, slots=True)
class Order:
    """What was typed."""

    action: PowerAction
    body: Mapping[str, Any]
    wait: bool
    timeout_s: float
    output: Form


_OPTIONS: Final[tuple[Callable[..., Any], ...]] = (
    machine_ids(required=False),
    filter_options,
    click.option("--reason", "-r", default="", help="Why, for whoever wonders later."),
    click.option(
        "--force",
        is_flag=True,
        help="Also while a task runs, while somebody else maintains it, or with a controller in error.",
    ),
    click.option(
        "--expires",
        type=Span(timedelta(seconds=SHORTEST_POWER_EXPIRY_S), timedelta(seconds=LONGEST_POWER_EXPIRY_S)),
        default=span_text(timedelta(seconds=POWER_EXPIRY_S)),
        show_default=True,
        metavar="SPAN",
        help="An agent that has not begun after so long, such as 90s, 30m or 1d, must not begin.",
    ),
    click.option("--wait", "-w", is_flag=True, help="Say how it goes, until all have ended."),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=900.0,
        show_default=True,
        metavar="SECONDS",
        help="With --wait: go away after so long, with exit code 6. The commands go on.",
    ),
    click.option("--yes", "-y", is_flag=True, help="Do not ask, however many machines there are."),
    output_option(Form.TABLE, Form.JSON),
)
_DELAY: Final = click.option(
    "--delay",
    type=click.FloatRange(0, MAX_DELAY_S, min_open=True),
    metavar="SECONDS",
    help="Time between off and on.  [default: as the controller's configuration says]",
)


def _order_command(action: PowerAction, text: str, *more: Callable[..., Any]) -> click.Command:
    """The three differ in little; `more`: options that the others do not have."""

    def order(
        access: Access,
        ids: Sequence[str],
        filters: Filters,
        reason: str,
        force: bool,
        expires: timedelta,
        wait: bool,
        timeout: float,
        yes: bool,
        output: Form,
        delay: float | None = None,
    ) -> None:
        body = {
            "action": action.value,
            "why": reason,
            "force": force,
            "delay_s": delay,
            "expires_in_s": expires.total_seconds(),
        }
        chosen = asyncio.run(_chosen(access, ids, filters))
        _ask(action, chosen, yes=yes)
        asyncio.run(_carry_out(access, chosen, Order(action, body, wait, timeout, output)))

    order.__doc__ = text
    decorated = facade_options(order)
    for option in reversed((*_OPTIONS, *more)):
        decorated = option(decorated)
    return click.command(action.value)(decorated)


cycle_command = _order_command(
    PowerAction.CYCLE,
    """Switch machines off and on again: those named, and all that meet every condition given.

    More than one machine takes a confirmation. Exit code 0: all were done (or, without --wait, queued); 5: some were refused, or
    something else is pending for them; 1: some failed; 6: not all had ended in time.

    \b
      labkeeper power cycle rack4-07 --wait
      labkeeper power cycle --where pool=Skia --down --reason "after the power cut"
      labkeeper power cycle rack4-07 --force           although a task runs
    """,
    _DELAY,
)
on_command = _order_command(
    PowerAction.ON,
    """Switch machines on.

    \b
      labkeeper power on rack4-07 --wait
    """,
)
off_command = _order_command(
    PowerAction.OFF,
    """Switch machines off. They stay off until somebody switches them on.

    \b
      labkeeper power off rack4-07 --reason "smells of smoke"
    """,
)


@click.command("cancel")
@machine_ids()
@facade_options
def cancel_command(access: Access, ids: Sequence[str]) -> None:
    """Withdraw commands that no agent has begun.

    \b
      labkeeper power cancel rack4-07
    """
    outcomes = Outcomes()
    asyncio.run(_cancel(access, ids, outcomes))
    outcomes.finish()


async def _cancel(access: Access, ids: Sequence[str], outcomes: Outcomes) -> None:
    async with FacadeClient(access) as facade:
        for name in ids:
            record = await outcomes.attempt(facade.delete(f"{MACHINES}/{name}/power"))
            if record is not None:
                write(f"{name}: {'cancelled' if record else 'nothing was pending'}\n")


async def _chosen(access: Access, ids: Sequence[str], filters: Filters) -> list[str]:
    """The machines that are meant. Raises `CommandFailed` when there are none."""
    if not ids and not filters:
        raise click.UsageError("Name machines, or say which with --where, --down and the like.")
    if not filters:
        return list(ids)
    async with FacadeClient(access) as facade:
        found = [id_of(machine) async for machine in facade.machines([*filters, ("sort", "id")])]
    chosen = list(dict.fromkeys([*ids, *found]))
    if not chosen:
        raise CommandFailed("no machine meets these conditions", ExitCode.NOT_FOUND)
    return chosen


def _ask(action: PowerAction, chosen: Sequence[str], *, yes: bool) -> None:
    if yes or len(chosen) == 1:
        return
    named = ", ".join(chosen[:_MOST_NAMED]) + (", …" if len(chosen) > _MOST_NAMED else "")
    confirm(
        f"{_DOING[action]} {count_of(len(chosen), 'machine')} ({named})?",
        "nothing was switched",
    )


async def _carry_out(access: Access, chosen: Sequence[str], order: Order) -> None:
    outcomes = Outcomes()
    async with FacadeClient(access) as facade:
        records = await _place(facade, chosen, order, outcomes)
        await _tell_who_is_away(facade, records)
        if order.wait:
            records = await _watch(facade, records, order, outcomes)
    if order.output is Form.JSON:
        write_json([record.model_dump(mode="json") for record in records])
    outcomes.finish()


async def _place(
    facade: FacadeClient, chosen: Sequence[str], order: Order, outcomes: Outcomes
) -> list[PowerRecord]:
    turns = asyncio.Semaphore(_AT_ONCE)

    async def place(name: str) -> PowerRecord | None:
        async with turns:
            answer = await outcomes.attempt(
                facade.put(f"{MACHINES}/{name}/power", order.body, idempotency_key=new_ulid())
            )
        if answer is None:
            return None
        record = read_record(answer)
        _tell(order, record, _first_word(record, order))
        if record.command.action is not order.action:
            outcomes.add(_in_the_way(record, order))
        return record

    placed = await asyncio.gather(*(place(name) for name in chosen))
    return [record for record in placed if record is not None]


async def _tell_who_is_away(facade: FacadeClient, records: Sequence[PowerRecord]) -> None:
    """A command may wait for its agent, but whoever gave it should know. A look that fails takes no order back."""
    queued = [record for record in records if record.status is PowerStatus.QUEUED]
    if not queued:
        return
    try:
        lines = list(waits_for_agents(queued, await outlets_of(facade, queued)))
    except CommandFailed as error:
        what = "the command is" if len(queued) == 1 else f"{len(queued)} commands are"
        lines = [f"{what} queued, but whether an agent is there is not known: {error}"]
    for line in lines:
        tell(printable(line))


def _first_word(record: PowerRecord, order: Order) -> str:
    """Somebody else's command that is pending already is returned in place of ours."""
    if record.command.action is order.action and record.status is PowerStatus.QUEUED:
        return record.status.value
    return f"{record.command.action} of {record.command.who} is pending already ({record.status})"


def _in_the_way(record: PowerRecord, order: Order) -> CommandFailed:
    """However well the other command ends, what was asked for is not done."""
    other = record.command
    return CommandFailed(
        f"the power {order.action} of {other.machine_id} was not taken, because another command ({other.action}) is pending: "
        "ask again when that has ended",
        ExitCode.CONFLICT,
    )


async def _watch(
    facade: FacadeClient, records: Sequence[PowerRecord], order: Order, outcomes: Outcomes
) -> list[PowerRecord]:
    """Look again and again until all have ended, or it takes too long."""
    known = {record.command.id: record for record in records}
    deadline = time.monotonic() + order.timeout_s
    is_away = False
    while waiting := [each for each in known.values() if each.status.is_pending]:
        if time.monotonic() > deadline:
            outcomes.add(_late(len(waiting), order))
            break
        await asyncio.sleep(_LOOK_EVERY_S)
        try:
            looked = await _looked(facade, [each.command.id for each in waiting])
        except CommandFailed as error:
            if error.code not in _PASSES:
                raise
            if not is_away:
                tell(f"{error}; the commands go on, and so does the wait")
            is_away = True
            continue
        is_away = False
        for record in looked:
            _tell_progress(order, known[record.command.id], record)
            known[record.command.id] = record
    bad = [
        each for each in known.values() if not each.status.is_pending and each.status is not PowerStatus.DONE
    ]
    if bad:
        outcomes.add(CommandFailed(f"{len(bad)} of {count_of(len(known), 'command')} came to no good end"))
    return list(known.values())


def _tell_progress(order: Order, before: PowerRecord, record: PowerRecord) -> None:
    for moment in record.steps[len(before.steps) :]:
        _tell(order, record, moment.status.value + (f" ({moment.text})" if moment.text else ""))
    if record.status.is_pending and record.text not in ("", before.text):
        _tell(order, record, f"still {record.status}: {record.text}")


def _late(waiting: int, order: Order) -> CommandFailed:
    return CommandFailed(
        f"{count_of(waiting, 'command')} had not ended after {order.timeout_s:g} s, and will go on: "
        "see `labkeeper power history`",
        ExitCode.TIMED_OUT,
    )


async def _looked(facade: FacadeClient, ids: Sequence[str]) -> list[PowerRecord]:
    """As they are now: many at once among the pending ones, those that have ended one by one."""
    if len(ids) == 1:
        return [read_record(await facade.get(f"{COMMANDS}/{ids[0]}"))]
    pending = [read_record(each) for each in await commands(facade, [("state", "pending")])]
    found = {record.command.id: record for record in pending if record.command.id in ids}
    for command_id in ids:
        if command_id not in found:
            found[command_id] = read_record(await facade.get(f"{COMMANDS}/{command_id}"))
    return list(found.values())


def _tell(order: Order, record: PowerRecord, text: str) -> None:
    """Progress belongs to the answer, unless that is for programs."""
    line = printable(f"{record.command.machine_id}: {text}")
    if order.output is Form.JSON:
        tell(line)
    else:
        write(line + "\n")
