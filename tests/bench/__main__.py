"""`make bench`: measures what the design promises and prints one table. It judges nothing."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import click
from rich.console import Console
from rich.table import Table

from pipeline.factory import open_broker
from pipeline.settings import BrokerKind
from producers.simulator.load import EventSize, load_ids
from tests.bench import faust_alone, latency, power, throughput
from tests.bench.faust_alone import Mode
from tests.bench.lab import Ground, Load, fill, ground

THROUGHPUT = {
    EventSize.SMALL: (Load(EventSize.SMALL, machines=1000, count=60_000), 15_000),
    EventSize.REAL: (Load(EventSize.REAL, machines=1000, count=20_000), 5_000),
}
"""Load and promise (events per second) by size."""
FLEETS = (1_000, 100_000, 1_000_000)
FLEET_EVENTS = 20_000
CLICKS = 250


@click.command()
@click.option(
    "--quick", is_flag=True, help="A tenth of the load, no fleet of a million: to see that it works."
)
@click.option(
    "--broker",
    type=click.Choice([BrokerKind.EMBEDDED.value, BrokerKind.KAFKA.value]),
    default=BrokerKind.EMBEDDED.value,
    show_default=True,
    help="What carries the topics. `kafka` starts a broker of its own.",
)
@click.option(
    "--only", type=click.Choice(["throughput", "latency", "power", "fleet"]), help="Measure this part only."
)
def main(quick: bool, broker: str, only: str | None) -> None:
    """Measure Labkeeper on this machine."""
    kind = BrokerKind(broker)
    table = Table(title=_machine(kind), title_justify="left")
    for heading, justify in (("what", "left"), ("measured", "right"), ("promised", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]  # a literal, but through a tuple
    with ground(kind) as servers:
        if only in (None, "throughput"):
            asyncio.run(_throughput(table, servers, quick=quick))
        if only in (None, "latency"):
            asyncio.run(_latency(table, servers, quick=quick))
        if only in (None, "power"):
            asyncio.run(_power(table, servers, quick=quick))
        if only in (None, "fleet"):
            asyncio.run(_fleet(table, servers, quick=quick))
    Console(width=110).print(table)


def _machine(kind: BrokerKind) -> str:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"Labkeeper, {kind.value} broker, {cpus} CPUs, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


async def _throughput(table: Table, servers: Ground, *, quick: bool) -> None:
    for size, (load, promise) in THROUGHPUT.items():
        smaller = replace(load, count=load.count // 10) if quick else load
        result = await throughput.measure(servers, smaller)
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
        table.add_row(
            f"{size.value}: two writers", f"{await throughput.two_writers(servers, smaller):,.0f}/s", ""
        )
        if servers.kafka is not None:
            await _faust(table, servers, smaller)


async def _faust(table: Table, servers: Ground, load: Load) -> None:
    for mode in Mode:
        part = replace(load, count=min(load.count, 2000)) if mode is Mode.ONE_BY_ONE else load
        lab = await servers.new_lab(f"faust_{mode.name.lower()}_{load.size.name.lower()}")
        async with open_broker(lab) as broker:
            await fill(broker, part.messages())
        rate = await faust_alone.rate(lab, mode, part.count)
        table.add_row(f"{load.size.value}: Faust alone, {mode.value}", f"{rate:,.0f}/s", "")


async def _latency(table: Table, servers: Ground, *, quick: bool) -> None:
    load = latency.LatencyLoad(seconds=5) if quick else latency.LatencyLoad()
    result = await latency.measure(await servers.new_lab("latency"), load)
    clients = load.machines + load.dashboards
    table.add_section()
    table.add_row(f"event accepted → seen, {clients:,} SSE clients: p50", f"{result.p50_ms:.0f} ms", "50 ms")
    table.add_row("the same, p99", f"{result.p99_ms:.0f} ms", "250 ms")
    table.add_row("events posted per second", f"{result.achieved_rate:.0f}/s", f"{load.rate}/s")
    table.add_row("events seen of events accepted", f"{result.seen:,} of {result.sent:,}", "all")


async def _power(table: Table, servers: Ground, *, quick: bool) -> None:
    table.add_section()
    count = CLICKS // 10 if quick else CLICKS
    direct = await power.ceiling(count)
    _add_times(table, "ceiling: driver called → first byte on the switch's wire", direct, "")
    for name, over_http in (("the broker", False), ("the façade over HTTP", True)):
        lab = await servers.new_lab(f"power_{'http' if over_http else 'broker'}")
        times = await power.clicks(lab, count, over_http=over_http)
        what = f"agent on {name}: click →"
        _add_times(table, f"{what} first byte on the switch's wire", times.on_wire, "100 ms")
        _add_times(table, f"{what} answered", times.answered, "")
        _add_times(table, f"{what} the agent begins", times.accepted, "")


def _add_times(table: Table, what: str, seconds: Sequence[float], promise: str) -> None:
    p50, p99 = power.percentile(seconds, 0.5), power.percentile(seconds, 0.99)
    table.add_row(f"{what}: p50", f"{p50:.1f} ms", promise)
    table.add_row("the same, p99", f"{p99:.1f} ms", "")


async def _fleet(table: Table, servers: Ground, *, quick: bool) -> None:
    table.add_section()
    for machines in FLEETS[:2] if quick else FLEETS:
        lab = await servers.new_lab(f"fleet_{machines}")
        await throughput.create_machines(lab, load_ids(machines))
        stride = max(1, machines // FLEET_EVENTS)
        messages = Load(EventSize.SMALL, machines, 2 * FLEET_EVENTS, stride).messages()
        for _ in ("what the machines are", "that they are still alive"):
            async with open_broker(lab) as broker:
                await fill(broker, islice(messages, FLEET_EVENTS))
            rate = await throughput.pipeline(lab, FLEET_EVENTS, "--max-records", "500")
        table.add_row(f"1k: one writer just started, {machines:,} rows", f"{rate:,.0f}/s", "flat")


if __name__ == "__main__":
    main()
