"""`make bench`: measures what the design promises and prints one table. It judges nothing."""

from __future__ import annotations

import asyncio
import os
import platform
from dataclasses import replace
from itertools import islice

import click
from rich.console import Console
from rich.table import Table

from infra.servers.postgres import PostgresServer
from producers.simulator.load import EventSize, load_ids
from tests.bench import latency, throughput
from tests.bench.lab import Load, fill, new_lab, opened_broker, server

THROUGHPUT = {
    EventSize.SMALL: (Load(EventSize.SMALL, machines=1000, count=60_000), 15_000),
    EventSize.REAL: (Load(EventSize.REAL, machines=1000, count=20_000), 5_000),
}
"""Load and promise (events per second) by size."""
FLEETS = (1_000, 100_000, 1_000_000)
FLEET_EVENTS = 20_000


@click.command()
@click.option(
    "--quick", is_flag=True, help="A tenth of the load, no fleet of a million: to see that it works."
)
@click.option("--only", type=click.Choice(["throughput", "latency", "fleet"]), help="Measure this part only.")
def main(quick: bool, only: str | None) -> None:
    """Measure Labkeeper on this machine, on the embedded broker."""
    table = Table(title=_machine(), title_justify="left")
    for heading, justify in (("what", "left"), ("measured", "right"), ("promised", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]  # a literal, but through a tuple
    with server() as postgres:
        if only in (None, "throughput"):
            asyncio.run(_throughput(table, postgres, quick=quick))
        if only in (None, "latency"):
            asyncio.run(_latency(table, postgres, quick=quick))
        if only in (None, "fleet"):
            asyncio.run(_fleet(table, postgres, quick=quick))
    Console(width=110).print(table)


def _machine() -> str:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"Labkeeper, embedded broker, {cpus} CPUs, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


async def _throughput(table: Table, postgres: PostgresServer, *, quick: bool) -> None:
    for size, (load, promise) in THROUGHPUT.items():
        smaller = replace(load, count=load.count // 10) if quick else load
        result = await throughput.measure(lambda name: new_lab(postgres, name), smaller)
        table.add_section()
        table.add_row(
            f"{size.value}: event → row → change, one writer", f"{result.pipeline:,.0f}/s", f"{promise:,}/s"
        )
        table.add_row(f"{size.value}: ceiling, read and parse only", f"{result.read_and_parse:,.0f}/s", "")
        table.add_row(f"{size.value}: ceiling, write rows only", f"{result.write_rows:,.0f}/s", "")
        table.add_row(f"{size.value}: against the lower ceiling", f"{result.ratio:.2f}", "0.60")
        table.add_row(f"{size.value}: one event, one transaction", f"{result.one_by_one:,.0f}/s", "")
        table.add_row(
            f"{size.value}: against that", f"{result.pipeline / result.one_by_one:.1f} times", "10 times"
        )


async def _latency(table: Table, postgres: PostgresServer, *, quick: bool) -> None:
    load = latency.LatencyLoad(seconds=5) if quick else latency.LatencyLoad()
    result = await latency.measure(new_lab(postgres, "latency"), load)
    clients = load.machines + load.dashboards
    table.add_section()
    table.add_row(f"event accepted → seen, {clients:,} SSE clients: p50", f"{result.p50_ms:.0f} ms", "50 ms")
    table.add_row("the same, p99", f"{result.p99_ms:.0f} ms", "250 ms")
    table.add_row("events posted per second", f"{result.achieved_rate:.0f}/s", f"{load.rate}/s")
    table.add_row("events seen of events accepted", f"{result.seen:,} of {result.sent:,}", "all")


async def _fleet(table: Table, postgres: PostgresServer, *, quick: bool) -> None:
    table.add_section()
    for machines in FLEETS[:2] if quick else FLEETS:
        lab = new_lab(postgres, f"fleet_{machines}")
        await throughput.create_machines(lab, load_ids(machines))
        stride = max(1, machines // FLEET_EVENTS)
        messages = Load(EventSize.SMALL, machines, 2 * FLEET_EVENTS, stride).messages()
        for _ in ("what the machines are", "that they are still alive"):
            async with opened_broker(lab) as broker:
                await fill(broker, islice(messages, FLEET_EVENTS))
            rate = await throughput.pipeline(lab, FLEET_EVENTS, "--max-records", "500")
        table.add_row(f"1k: one writer just started, {machines:,} rows", f"{rate:,.0f}/s", "flat")


if __name__ == "__main__":
    main()
