"""Power commands as the façade tells of them, and how they read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from producers.labkeeper.client import MACHINES, FacadeClient, Json
from producers.labkeeper.documents import read_as
from producers.labkeeper.output import Cell, Column, Fit
from producers.labkeeper.text import ago, short_duration
from schemas.power import PowerCommand, PowerOutlet, PowerRecord, PowerStatus
from schemas.wire import format_time

COMMANDS: Final = "/api/v1/power/commands"
OUTLETS: Final = "/api/v1/power/outlets"
_PAGE: Final = 1000

STYLES: Final = {
    PowerStatus.DONE: "green",
    PowerStatus.FAILED: "bold red",
    PowerStatus.EXPIRED: "red",
    PowerStatus.REFUSED: "red",
    PowerStatus.CANCELLED: "dim",
}

HISTORY_COLUMNS: Final = (
    Column("WHEN"),
    Column("MACHINE"),
    Column("ACTION"),
    Column("STATUS"),
    Column("TOOK", right=True),
    Column("WHO", Fit.CUT),
    Column("WHY", Fit.WRAP),
    Column("WHAT CAME OF IT", Fit.WRAP),
)


def read_record(document: Json) -> PowerRecord:
    """A command as the façade tells of it. Raises `CommandFailed`."""
    return read_as(PowerRecord, document, "a power command")


def read_outlet(document: Json) -> PowerOutlet:
    """An outlet as the façade tells of it. Raises `CommandFailed`."""
    return read_as(PowerOutlet, document, "an outlet")


async def commands(
    facade: FacadeClient, filters: Sequence[tuple[str, str]] = (), *, limit: int | None = None
) -> list[Json]:
    """Commands, newest first, page by page."""
    found: list[Json] = []
    before: str | None = None
    while limit is None or len(found) < limit:
        size = _PAGE if limit is None else min(_PAGE, limit - len(found))
        page = await facade.get(
            COMMANDS, [*filters, ("limit", str(size)), *([("before", before)] if before else [])]
        )
        found += page.get("commands") or []
        before = page.get("next_before")
        if not before:
            break
    return found[:limit]


async def outlets_of(facade: FacadeClient, records: Sequence[PowerRecord]) -> list[PowerOutlet]:
    """Where these commands' machines have their power from; perhaps others' too. Raises `CommandFailed`."""
    if len(records) == 1:
        answer = await facade.get(f"{MACHINES}/{records[0].command.machine_id}/power")
        told = [answer["outlet"]] if answer.get("outlet") else []
    else:
        told = (await facade.get(OUTLETS)).get("outlets") or []
    return [read_outlet(each) for each in told]


def status_cell(record: PowerRecord) -> Cell:
    """How far it is."""
    return Cell(record.status.value, STYLES.get(record.status, "yellow" if record.status.is_pending else ""))


def history_row(record: PowerRecord) -> Sequence[str | Cell]:
    """A line of the history."""
    command = record.command
    took = "" if record.status.is_pending else short_duration(record.steps[-1].at - command.requested_at)
    return (
        format_time(command.requested_at.replace(microsecond=0)),
        command.machine_id,
        command.action.value,
        status_cell(record),
        took,
        command.who,
        command.why,
        record.text,
    )


def state_of(outlet: PowerOutlet, now: datetime) -> tuple[str, str]:
    """How its controller is, and whether its agent is away; and in which style."""
    silence = outlet.agent_silence(now)
    if silence is None:
        style = {"available": "green", "in_error": "bold red"}.get(outlet.state.value, "dim")
        return outlet.state.value, style
    return f"{outlet.state.value}, agent silent for {short_duration(silence)}", "bold yellow"


def waits_for_agents(records: Sequence[PowerRecord], outlets: Iterable[PowerOutlet]) -> Iterator[str]:
    """A line for each agent that is away and has commands to begin, on how long they wait for it."""
    queued = {each.command.machine_id: each.command for each in records if each.status is PowerStatus.QUEUED}
    waiting: dict[str, list[tuple[PowerOutlet, PowerCommand]]] = {}
    for outlet in outlets:
        command = queued.get(outlet.machine_id)
        if command is not None and outlet.agent_silence(command.requested_at) is not None:
            waiting.setdefault(outlet.agent, []).append((outlet, command))
    for agent, found in waiting.items():
        heard = ago(max(outlet.reported_at for outlet, _ in found), found[0][1].requested_at)
        until = max(command.expires_at for _, command in found)
        what = "the command waits" if len(found) == 1 else f"{len(found)} commands wait"
        then = "expires" if len(found) == 1 else "expire"
        yield f"agent {agent} was last heard of {heard}: {what} for it until {until:%H:%M:%S}Z, and then {then}"


def told_since(record: PowerRecord, now: datetime) -> str:
    """`cycle done 5 min ago, for ann`."""
    return (
        f"{record.command.action} {record.status} {ago(record.steps[-1].at, now)}, for {record.command.who}"
    )
