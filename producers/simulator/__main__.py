"""`labkeeper simulator`: parse, connect, pretend."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import click

from pipeline import command as commands
from pipeline.clock import SystemClock
from pipeline.service import serve, together
from producers.simulator.catalogue import furnish
from producers.simulator.load import EventSize
from producers.simulator.operator import Operator
from producers.simulator.power_strips import PowerStrips, strips_of
from producers.simulator.sender import Load, send
from producers.simulator.service import Simulator
from producers.simulator.settings import SimulatorSettings
from producers.simulator.target import Target, opened, target_of, target_options

_MOST_MACHINES: Final = 1_000_000
_DEFAULTS: Final = SimulatorSettings()


@click.group("simulator", invoke_without_command=True)
@click.option(
    "--machines",
    type=click.IntRange(1, _MOST_MACHINES),
    default=_DEFAULTS.machines,
    show_default=True,
    help="How many machines the lab has.",
)
@click.option(
    "--period",
    type=click.FloatRange(0.1, 86_400),
    default=_DEFAULTS.period.total_seconds(),
    show_default=True,
    help="Seconds between two reports of a machine.",
)
@click.option(
    "--seed",
    type=int,
    default=_DEFAULTS.seed,
    show_default=True,
    help="Names the lab: the same machines, of the same nature.",
)
@click.option(
    "--power-config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Give the machines power strips that answer on this computer, and write to this file what "
    "`labkeeper powercycle-agent --config` wants to know of them.",
)
@target_options
@commands.service_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    machines: int,
    period: float,
    seed: int,
    power_config: Path | None,
    **options: Any,
) -> None:
    """Pretend to be a lab full of machines.

    Phones drain and overheat, devices vanish and return, tasks come and go, hosts fall silent. With --url it also does
    what a person would do for new machines: says which device is attached where, and leaves some notes.

    \b
      labkeeper simulator --url http://127.0.0.1:8000 --machines 50
    """
    if ctx.invoked_subcommand is not None:
        return
    target = target_of(options)
    settings = SimulatorSettings(machines, timedelta(seconds=period), seed)

    async def work(stop: asyncio.Event) -> None:
        await _live(target, settings, power_config, stop)

    serve("simulator", work, commands.service_settings(**options))


async def _live(
    target: Target, settings: SimulatorSettings, power_config: Path | None, stop: asyncio.Event
) -> None:
    lab = furnish(settings.machines, seed=settings.seed)
    async with opened(target) as to:
        simulator = Simulator(lab, to.destination, SystemClock(), settings)
        parts = [simulator.run(stop)]
        if power_config is not None:
            parts.append(PowerStrips(strips_of(lab), simulator).run(power_config, stop))
        if to.facade is not None:
            parts.append(Operator(to.facade, lab).run(stop))
        await together(*parts)


@command.command("load")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="EVENTS_PER_SECOND",
    help="How fast to send.  [default: as fast as events are taken]",
)
@click.option(
    "--event-size",
    type=click.Choice([size.value for size in EventSize]),
    default=EventSize.SMALL.value,
    show_default=True,
    help="How long an event is: the few lines that matter, or all that a real phone prints.",
)
@click.option("--machines", type=click.IntRange(1, _MOST_MACHINES), default=1000, show_default=True)
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many events.  [default: go on]")
@target_options
@commands.service_options
def load(rate: float | None, event_size: str, machines: int, count: int | None, **options: Any) -> None:
    """Send prepared events at a steady rate, to measure what comes out.

    \b
      labkeeper simulator load --rate 5000 --event-size 35k --count 100000
    """
    target = target_of(options)
    wanted = Load(machines, EventSize(event_size), rate=rate, count=count)

    async def work(stop: asyncio.Event) -> None:
        async with opened(target) as to:
            await send(wanted, to.destination, SystemClock(), stop)

    serve("simulator", work, commands.service_settings(**options))


if __name__ == "__main__":
    commands.run(command)
