"""`labkeeper status`: whether the lab is up, who it takes us for, and how many machines are in which state."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import click
from rich.text import Text

from pipeline.clock import SystemClock
from pipeline.command import CommandFailed
from producers.labkeeper.access import Access, facade_options
from producers.labkeeper.client import FacadeClient
from producers.labkeeper.machine_view import STYLES, read_machine, state_of
from producers.labkeeper.output import Form, output_option, write_json, write_lines
from producers.labkeeper.text import printable
from schemas.health import Health

_OK: Final = "ok"


@dataclass(frozen=True, slots=True)
class Status:
    """What a façade says of itself and of its lab."""

    url: str
    user: str
    role: str
    machines: Mapping[Health, int]
    """How many machines are in which state, each in its worst one."""
    writer: str
    """`ok`, or since when no writer has been at work; empty: an older façade does not say."""


@click.command("status")
@output_option(Form.TABLE, Form.JSON)
@facade_options
def command(access: Access, output: Form) -> None:
    """Say whether the lab is up, and how many machines are in which state (each counts in its worst one).

    Exit code 0: it is ready. 1: no writer is at work, so nothing that machines report arrives. 7: it cannot be reached, or
    is not ready yet.

    \b
      labkeeper status
      labkeeper status -o json | jq .machines.down
    """
    status = asyncio.run(_ask(access))
    if output is Form.JSON:
        write_json(
            {
                "url": status.url,
                "user": status.user,
                "role": status.role,
                "writer": status.writer,
                "machines": {health.value: status.machines[health] for health in Health},
            }
        )
    else:
        write_lines(_lines(status))
    if status.writer not in (_OK, ""):
        raise CommandFailed(
            f"no writer is at work ({printable(status.writer)}): what machines report waits until `labkeeper writer` runs"
        )


async def _ask(access: Access) -> Status:
    now = SystemClock().now()
    counts: Counter[Health] = Counter()
    async with FacadeClient(access) as facade:
        parts = await facade.check_ready()
        who = await facade.get("/api/v1/whoami")
        async for machine in facade.machines():
            counts[state_of(read_machine(machine), now).health] += 1
    return Status(
        access.url,
        str(who.get("user") or "nobody"),
        str(who.get("role") or "nobody"),
        counts,
        str(parts.get("writer", "")),
    )


def _lines(status: Status) -> list[Text]:
    total = sum(status.machines.values())
    lines = [
        Text.assemble("façade    ", status.url, "  ", ("ready", "green")),
        Text(f"you are   {status.user} ({status.role})"),
    ]
    if status.writer:
        style = "green" if status.writer == _OK else "red"
        lines.append(Text.assemble("writer    ", (printable(status.writer), style)))
    lines.append(Text(f"machines  {total}"))
    lines.extend(
        Text.assemble(f"{count:>10}  ", (health.value, STYLES[health]))
        for health, count in status.machines.items()
        if count
    )
    return lines
