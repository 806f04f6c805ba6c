"""`labkeeper fleet stats`: how each pool does now, or how one did over time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import click

from pipeline.clock import SystemClock
from producers.labkeeper.access import Access, facade_options
from producers.labkeeper.client import FacadeClient, Json
from producers.labkeeper.documents import read_as
from producers.labkeeper.machine_view import STYLES, moment
from producers.labkeeper.output import Cell, Column, Form, output_option, tell, write_json, write_table
from producers.labkeeper.spans import Span
from producers.labkeeper.text import ago, short_duration
from schemas.fleet_stats import WHOLE_FLEET, FleetStats
from schemas.health import Health
from schemas.wire import format_time

URL: Final = "/api/v1/fleet/stats"
_NOTHING: Final = "-"

_FIGURES: Final = (
    Column("AVAILABLE", right=True),
    Column("MACHINES", right=True),
    *(Column(health.value.upper(), right=True) for health in (Health.DOWN, Health.QUARANTINED)),
    *(Column(health.value.upper(), right=True) for health in (Health.MAINTENANCE, Health.RECOVERING)),
    Column("BUSY", right=True),
    Column("RECOVERIES", right=True),
    Column("TO RECOVER", right=True),
    Column("EVENTS/S", right=True),
    Column("FLAPPING"),
)
NOW_COLUMNS: Final = (Column("POOL"), *_FIGURES)
HISTORY_COLUMNS: Final = (Column("FROM"), *_FIGURES)


@click.command("stats")
@click.option("--pool", help="Only this pool.  [default: now, each of them; over time, the whole fleet]")
@click.option(
    "--since", type=Span(), metavar="SPAN", help="Over time, so long back: 90s, 30m, 24h, 2d at most."
)
@click.option("--step", type=Span(), metavar="SPAN", help="How long a line of the history stands for.")
@output_option(Form.TABLE, Form.JSON)
@facade_options
def command(
    access: Access, pool: str | None, since: timedelta | None, step: timedelta | None, output: Form
) -> None:
    """Say how available the fleet is, how often machines recover, how long that takes, and which keep failing.

    AVAILABLE is the share of machine-time in which tasks may run. Recoveries count machines that were down, quarantined
    or recovering, and can run tasks again; the time to recover is told as median / 95th percentile. Times are UTC.

    \b
      labkeeper fleet stats
      labkeeper fleet stats --since 24h --step 1h
      labkeeper fleet stats --pool Skia -o json | jq '.stats[0].availability_percent'
    """
    if step is not None and since is None:
        raise click.UsageError("--step goes with --since.")
    document = asyncio.run(_ask(access, pool, since, step))
    if output is Form.JSON:
        write_json(document)
        return
    stats = _read(document)
    if not stats:
        tell("Nothing is told yet: is `labkeeper fleet-stats` running? The first window takes a minute.")
    elif since is None:
        write_table(NOW_COLUMNS, [(_pool(each.pool), *figures(each)) for each in stats])
        end = max(each.window_end for each in stats)
        tell(f"As of {moment(end)}, {ago(end, SystemClock().now())}.")
    else:
        write_table(HISTORY_COLUMNS, [(moment(each.window_start), *figures(each)) for each in stats])


async def _ask(access: Access, pool: str | None, since: timedelta | None, step: timedelta | None) -> Json:
    params = [("pool", pool)] if pool is not None else []
    async with FacadeClient(access) as facade:
        if since is None:
            return await facade.get(URL, params)
        begin: datetime = SystemClock().now() - since
        params.append(("since", format_time(begin)))
        if step is not None:
            params.append(("step", str(int(step.total_seconds()))))
        return await facade.get(f"{URL}/history", params)


def _read(document: Json) -> list[FleetStats]:
    return [read_as(FleetStats, each, "a window of statistics") for each in document.get("stats") or ()]


def _pool(name: str) -> str:
    return "all" if name == WHOLE_FLEET else name


def figures(stats: FleetStats) -> Sequence[str | Cell]:
    """The cells that `NOW_COLUMNS` and `HISTORY_COLUMNS` share."""
    available = stats.availability_percent
    return (
        _NOTHING if available is None else f"{available:.1f}%",
        str(stats.machines),
        *(
            _count(stats, health)
            for health in (
                Health.DOWN,
                Health.QUARANTINED,
                Health.MAINTENANCE,
                Health.RECOVERING,
                Health.BUSY,
            )
        ),
        str(stats.recoveries),
        _times(stats),
        f"{stats.changes_per_second:.1f}",
        _flapping(stats),
    )


def _count(stats: FleetStats, health: Health) -> Cell:
    count = stats.machines_by_state.get(health, 0)
    return Cell(str(count) if count else _NOTHING, STYLES[health] if count else "")


def _times(stats: FleetStats) -> str:
    if stats.recovery_p50_s is None or stats.recovery_p95_s is None:
        return _NOTHING
    both = (short_duration(timedelta(seconds=each)) for each in (stats.recovery_p50_s, stats.recovery_p95_s))
    return " / ".join(both)


def _flapping(stats: FleetStats) -> str:
    if not stats.flapping_total:
        return _NOTHING
    named = ", ".join(each.id for each in stats.flapping[:3])
    more = stats.flapping_total - min(3, len(stats.flapping))
    return f"{named} and {more} more" if more else named
