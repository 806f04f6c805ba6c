"""`labkeeper fleet-stats`: parse, connect, serve."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from consumers.fleet_stats.faust_end import LastResort
from consumers.fleet_stats.plain import PlainRunner
from consumers.fleet_stats.settings import FleetStatsSettings, Runner
from pipeline import command as commands
from pipeline import metrics
from pipeline.broker.greeting import greet
from pipeline.clock import SystemClock
from pipeline.errors import Misconfigured
from pipeline.factory import open_broker, open_store
from pipeline.service import serve
from pipeline.settings import BrokerKind
from pipeline.statistics.tally import Rules

if TYPE_CHECKING:
    from consumers.fleet_stats.faust_runner import FaustRunner

_DEFAULTS = FleetStatsSettings()


@click.command("fleet-stats")
@commands.connection_options
@click.option(
    "--runner",
    type=click.Choice([runner.value for runner in Runner]),
    default=Runner.AUTO.value,
    show_default=True,
    help="`faust` keeps its state in Kafka, `plain` in the database; `auto` is faust on Kafka, else plain.",
)
@click.option(
    "--window",
    type=click.FloatRange(1, 86_400),
    default=_DEFAULTS.rules.window.total_seconds(),
    show_default=True,
    help="Length of a window, in seconds.",
)
@click.option(
    "--grace",
    type=click.FloatRange(0, 3600),
    default=_DEFAULTS.grace.total_seconds(),
    show_default=True,
    help="Seconds that a window waits, after its end, for what comes late.",
)
@click.option(
    "--flapping-changes",
    type=click.IntRange(1, 19),
    default=_DEFAULTS.rules.flapping_turns,
    show_default=True,
    help="A machine that failed or came back more often than this in half an hour is flapping.",
)
@click.option(
    "--take-over-after",
    type=click.FloatRange(2, 600),
    default=_DEFAULTS.lease.total_seconds(),
    show_default=True,
    help="Seconds without a sign of life after which a process that stands by takes over.",
)
@commands.service_options
def command(
    runner: str,
    window: float,
    grace: float,
    flapping_changes: int,
    take_over_after: float,
    **options: Any,
) -> None:
    """Tell how the fleet does, window by window.

    Reads `machine.changes`, publishes `fleet.stats`: machines by state, availability, recoveries, flapping machines, for
    each pool and for the whole fleet. `labkeeper fleet stats` and /api/v1/fleet/stats show them. A second process stands
    by; killing one neither loses nor doubles a window.

    \b
      labkeeper fleet-stats --database-url postgresql:///labkeeper
      labkeeper fleet-stats --broker kafka --runner faust
    """
    connections, service = commands.settings(options)
    rules = Rules(window=timedelta(seconds=window), flapping_turns=flapping_changes)
    settings = FleetStatsSettings(
        rules=rules,
        grace=timedelta(seconds=grace),
        lease=timedelta(seconds=take_over_after),
    )
    chosen = _chosen(Runner(runner), connections.broker)
    metrics.STATS_WINDOW.set(window)

    async def work(stop: asyncio.Event) -> None:
        ending = LastResort().around(stop) if chosen is Runner.FAUST else contextlib.nullcontext()
        async with ending, open_store(connections, stop) as store, open_broker(connections) as broker:
            await greet(broker, stop)
            if chosen is Runner.FAUST:
                await _faust_runner()(store, broker, connections, SystemClock(), settings).run(stop)
            else:
                await PlainRunner(store, broker, SystemClock(), settings).run(stop)

    serve("fleet-stats", work, service)


def _faust_runner() -> type[FaustRunner]:
    try:
        from consumers.fleet_stats.faust_runner import FaustRunner  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("faust", "mode"):
            raise
        raise Misconfigured(
            "the runner faust needs the package 'faust-streaming', which is not installed: "
            "pip install 'labkeeper[faust]', or --runner plain"
        ) from error
    return FaustRunner


def _chosen(runner: Runner, broker: BrokerKind) -> Runner:
    """The runner that this broker can have."""
    if runner is Runner.AUTO:
        return Runner.FAUST if broker is BrokerKind.KAFKA else Runner.PLAIN
    if runner is Runner.FAUST and broker is not BrokerKind.KAFKA:
        raise Misconfigured(f"Faust runs on Kafka only: with --broker {broker} use --runner plain")
    return runner


if __name__ == "__main__":
    commands.run(command)
