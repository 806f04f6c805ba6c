"""`labkeeper status`: whether the lab is up, who it takes us for, and how many machines are in which state."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import click
from rich.text import Text

from pipeline.clock import SystemClock
from producers.labkeeper.access import Access, facade_options
from producers.labkeeper.client import FacadeClient
from producers.labkeeper.machine_view import STYLES, read_machine, state_of
from producers.labkeeper.output import Form, output_option, write_json, write_lines
from schemas.health import Health


@dataclass(frozen=True, slots=True)
class Status:
    """What a façade says of itself and of its lab."""

    url: str
    user: str
    role: str
    machines: Mapping[Health, int]
    """How many machines are in which state, each in its worst one."""


@click.command("status")
@output_option(Form.TABLE, Form.JSON)
@facade_options
def command(access: Access, output: Form) -> None:
    """Say whether the lab is up, and how many machines are in which state (each counts in its worst one).

    Exit code 0: it is ready. 7: it cannot be reached, or is not ready yet.

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
                "machines": {health.value: status.machines[health] for health in Health},
            }
        )
    else:
        write_lines(_lines(status))


async def _ask(access: Access) -> Status:
    now = SystemClock().now()
    counts: Counter[Health] = Counter()
    async with FacadeClient(access) as facade:
        await facade.check_ready()
        who = await facade.get("/api/v1/whoami")
        async for machine in facade.machines():
            counts[state_of(read_machine(machine), now).health] += 1
    return Status(access.url, str(who.get("user") or "nobody"), str(who.get("role") or "nobody"), counts)


def _lines(status: Status) -> list[Text]:
    total = sum(status.machines.values())
    lines = [
        Text.assemble("façade    ", status.url, "  ", ("ready", "green")),
        Text(f"you are   {status.user} ({status.role})"),
        Text(f"machines  {total}"),
    ]
    lines.extend(
        Text.assemble(f"{count:>10}  ", (health.value, STYLES[health]))
        for health, count in status.machines.items()
        if count
    )
    return lines
