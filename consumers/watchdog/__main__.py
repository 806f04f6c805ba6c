"""`labkeeper watchdog`: parse, connect, serve."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from consumers.watchdog.policy_source import PolicySource
from consumers.watchdog.service import Watchdog
from consumers.watchdog.settings import MISSED_PERIODS, WatchdogSettings
from pipeline import command as commands
from pipeline.clock import SystemClock
from pipeline.factory import open_store
from pipeline.service import serve
from pipeline.settings import Connections

_DEFAULTS = WatchdogSettings()


@click.command("watchdog")
@commands.connection_options
@click.option(
    "--period",
    type=click.FloatRange(0, min_open=True),
    default=_DEFAULTS.period.total_seconds(),
    show_default=True,
    help=f"How often machines report, in seconds. After {MISSED_PERIODS} missed reports one is down.",
)
@commands.pool_period_option
@click.option(
    "--check-every",
    type=click.FloatRange(0, min_open=True),
    default=_DEFAULTS.check_every.total_seconds(),
    show_default=True,
    help="Seconds between two looks.",
)
@click.option(
    "--keep-history-days",
    type=click.IntRange(1),
    default=_DEFAULTS.keep_history.days,
    show_default=True,
    help="Older lines of machines' histories are dropped.",
)
@click.option(
    "--heal-policy",
    envvar="LABKEEPER_HEAL_POLICY",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    show_envvar=True,
    help="JSON5: which pools' machines are power-cycled unasked when they are in trouble, and within which bounds. "
    "Read again when it changes.  [default: none are]",
)
@commands.service_options
def command(
    period: float,
    pool_period: dict[str, timedelta],
    check_every: float,
    keep_history_days: int,
    heal_policy: Path | None,
    **options: Any,
) -> None:
    """Mark machines down that have gone silent.

    Silence counts only while we could hear: not while the writer or the façade was away or behind. A machine's next event
    clears the mark. Start a second one for safety: it stands by.

    It needs the database alone: the broker's options are taken, so that all services can be given the same ones, and the
    broker is not asked.

    \b
      labkeeper watchdog --database-url postgresql:///labkeeper --pool-period Slow=300
      labkeeper watchdog --heal-policy /etc/labkeeper/healing.json5
    """
    connections, service = commands.settings(options)
    settings = WatchdogSettings(
        period=timedelta(seconds=period),
        period_of_pool=pool_period,
        check_every=timedelta(seconds=check_every),
        keep_history=timedelta(days=keep_history_days),
    )

    source = PolicySource(heal_policy)

    async def work(stop: asyncio.Event) -> None:
        await _watch(connections, settings, source, stop)

    serve("watchdog", work, service)


async def _watch(
    connections: Connections, settings: WatchdogSettings, source: PolicySource, stop: asyncio.Event
) -> None:
    async with open_store(connections, stop) as store:
        await Watchdog(store, SystemClock(), settings, source).run(stop)


if __name__ == "__main__":
    commands.run(command)
