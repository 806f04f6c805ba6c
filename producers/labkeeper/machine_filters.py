"""The options that choose machines by what they are, for every command that has them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from schemas.description import AttachedDevice
from schemas.health import Health

Filters = Sequence[tuple[str, str]]
"""Parameters of the façade's listing; empty: nothing was asked for."""


def _as_dimension(_context: click.Context, _option: click.Parameter, values: Sequence[str]) -> list[str]:
    for value in values:
        key, equals, wanted = value.partition("=")
        if not (key and equals and wanted):
            raise click.BadParameter(f"{value!r} is not of the form key=value, such as pool=Skia.")
    return [value.replace("=", ":", 1) for value in values]


def filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--where`, `--health`, `--down`, `--available` and `--device`; the command gets them as `filters`."""

    @click.option(
        "--where",
        metavar="KEY=VALUE",
        multiple=True,
        callback=_as_dimension,
        help="Only machines with this dimension. May be repeated: all must hold.",
    )
    @click.option(
        "--health",
        type=click.Choice([health.value for health in Health]),
        multiple=True,
        help="Only machines in this state. May be repeated: all must hold.",
    )
    @click.option("--down", is_flag=True, help="Same as --health down.")
    @click.option("--available", is_flag=True, help="Same as --health available.")
    @click.option(
        "--device",
        type=click.Choice([device.value for device in AttachedDevice]),
        help="Only machines with this kind of device attached.",
    )
    @functools.wraps(function)
    def with_filters(
        *args: Any,
        where: Sequence[str],
        health: Sequence[str],
        down: bool,
        available: bool,
        device: str | None,
        **options: Any,
    ) -> Any:
        states = [*health, *([Health.DOWN.value] * down), *([Health.AVAILABLE.value] * available)]
        filters = [
            *(("dimension", dimension) for dimension in where),
            *(("health", state) for state in dict.fromkeys(states)),
            *([("attached_device", device)] if device else []),
        ]
        return function(*args, filters=filters, **options)

    return with_filters
