"""`labkeeper machines maintenance`, `note`, `set-device`, `clear-quarantine` and `delete`: what operators do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import click

from producers.labkeeper.access import Access, facade_options
from producers.labkeeper.client import MACHINES, FacadeClient, Json
from producers.labkeeper.confirmation import confirm
from producers.labkeeper.machine_ids import machine_ids
from producers.labkeeper.output import write
from producers.labkeeper.per_machine import Outcomes
from producers.labkeeper.text import count_of
from producers.labkeeper.umbrella import GuessingGroup
from schemas.description import AttachedDevice

Request = Callable[[FacadeClient, str], Awaitable[Json]]
"""Asks for the change of one machine, given its path."""

_MOST_NAMED: Final = 5


def _apply(access: Access, ids: Sequence[str], request: Request, done: str) -> None:
    """Ask for the same change of every machine; say what was done to each."""
    outcomes = Outcomes()
    asyncio.run(_each(access, ids, request, done, outcomes))
    outcomes.finish()


async def _each(access: Access, ids: Sequence[str], request: Request, done: str, outcomes: Outcomes) -> None:
    async with FacadeClient(access) as facade:
        for name in ids:
            if await outcomes.attempt(request(facade, f"{MACHINES}/{name}")) is not None:
                write(f"{name}: {done}\n")


@click.group("maintenance", cls=GuessingGroup)
def maintenance() -> None:
    """Take machines out of service, or give them back.

    A machine in maintenance is lent to nobody.

    \b
      labkeeper machines maintenance on rack4-07 --reason "new fan"
      labkeeper machines maintenance off rack4-07
    """


@maintenance.command("on")
@machine_ids()
@click.option("--reason", "-r", default="", help="Why, for whoever wonders later.")
@facade_options
def maintenance_on(access: Access, ids: Sequence[str], reason: str) -> None:
    """Take machines out of service. One that already is keeps the reason it has.

    \b
      labkeeper machines maintenance on rack4-07 rack4-08 --reason "new fans"
    """
    _apply(
        access,
        ids,
        lambda facade, path: facade.put(f"{path}/maintenance", {"reason": reason}),
        "in maintenance",
    )


@maintenance.command("off")
@machine_ids()
@facade_options
def maintenance_off(access: Access, ids: Sequence[str]) -> None:
    """Give machines back to the lab.

    \b
      labkeeper machines maintenance off rack4-07
    """
    _apply(access, ids, lambda facade, path: facade.delete(f"{path}/maintenance"), "no longer in maintenance")


@click.command("note")
@machine_ids()
@click.option("--message", "-m", help="The note. It replaces the one before.")
@click.option("--clear", is_flag=True, help="Take the note away.")
@facade_options
def note_command(access: Access, ids: Sequence[str], message: str | None, clear: bool) -> None:
    """Leave a note on machines for others to read, or take it away.

    \b
      labkeeper machines note rack4-07 -m "USB hub replaced, watch it"
      labkeeper machines note rack4-07 --clear
    """
    if clear == bool(message):
        raise click.UsageError("Give either --message TEXT or --clear.")
    if clear:
        _apply(access, ids, lambda facade, path: facade.delete(f"{path}/note"), "note taken away")
    else:
        _apply(
            access, ids, lambda facade, path: facade.put(f"{path}/note", {"message": message}), "note left"
        )


@click.command("set-device")
@click.argument("device", type=click.Choice([device.value for device in AttachedDevice]))
@machine_ids()
@facade_options
def set_device_command(access: Access, device: str, ids: Sequence[str]) -> None:
    """Say what kind of device is attached to machines, so that their monitors know what to ask.

    \b
      labkeeper machines set-device adb rack4-07 rack4-08
    """
    body = {"attached_device": device}
    _apply(
        access,
        ids,
        lambda facade, path: facade.put(f"{path}/attached-device", body),
        f"device is {device}",
    )


@click.command("clear-quarantine")
@machine_ids()
@facade_options
def clear_quarantine_command(access: Access, ids: Sequence[str]) -> None:
    """Lift the quarantine that a task asked for.

    \b
      labkeeper machines clear-quarantine rack4-07
    """
    _apply(access, ids, lambda facade, path: facade.delete(f"{path}/quarantine"), "no longer quarantined")


@click.command("delete")
@machine_ids()
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@facade_options
def delete_command(access: Access, ids: Sequence[str], yes: bool) -> None:
    """Forget machines that are gone for good. One that still reports comes back with its next report.

    Their history stays for a while (labkeeper machines history).

    \b
      labkeeper machines delete rack4-07
    """
    named = ", ".join(ids[:_MOST_NAMED]) + (", …" if len(ids) > _MOST_NAMED else "")
    if not yes:
        confirm(f"Delete {count_of(len(ids), 'machine')} ({named})?", "nothing was deleted")
    _apply(access, ids, lambda facade, path: facade.delete(path), "deleted")
