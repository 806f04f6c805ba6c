"""The argument that names machines: checked before anything is sent, completed from the façade in the shell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from pipeline.command import CommandFailed
from producers.labkeeper.access import access_to
from producers.labkeeper.client import FacadeClient
from producers.labkeeper.machine_view import id_of
from schemas.ids import MACHINE_ID_RULE, is_machine_id

_COMPLETION_SECONDS: Final = 0.7
"""A shell that hangs on TAB is worse than one that offers nothing."""
_MOST_OFFERED: Final = 500


def machine_ids(*, required: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the argument `ID...`; the command gets `ids`, without repetitions."""
    return click.argument(
        "ids",
        metavar="ID..." if required else "[ID]...",
        nargs=-1,
        required=required,
        callback=_checked,
        shell_complete=_complete,
    )


def machine_id() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the argument `ID`; the command gets it as `machine_id`."""
    return click.argument("machine_id", metavar="ID", callback=_checked_one, shell_complete=_complete)


def _checked(_context: click.Context, _argument: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    for value in values:
        _check(value)
    return tuple(dict.fromkeys(values))


def _checked_one(_context: click.Context, _argument: click.Parameter, value: str) -> str:
    return _check(value)


def _check(value: str) -> str:
    if not is_machine_id(value):
        raise click.BadParameter(f"{value!r} cannot be a machine: an id has {MACHINE_ID_RULE}.")
    return value


def _complete(context: click.Context, _argument: click.Parameter, incomplete: str) -> list[str]:
    try:
        return asyncio.run(_ids_like(incomplete, context.params))
    except CommandFailed:
        return []


async def _ids_like(incomplete: str, options: dict[str, Any]) -> list[str]:
    access = access_to(options["url"], options.get("token_file"))
    filters = [("sort", "id"), *([("q", incomplete)] if incomplete else [])]
    async with FacadeClient(access, request_seconds=_COMPLETION_SECONDS) as facade:
        found = [id_of(machine) async for machine in facade.machines(filters, limit=_MOST_OFFERED)]
    return [name for name in found if name.startswith(incomplete)]
