"""How many events a second one writer process turns into rows and changes, and what bounds it from both sides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from consumers.description_writer.decode import decode_all
from consumers.description_writer.settings import GROUP, WriterSettings
from pipeline.clock import SystemClock
from pipeline.factory import open_broker, open_store
from pipeline.settings import Connections
from pipeline.store.protocol import Store
from producers.simulator.load import load_ids
from schemas.description import Description
from schemas.topics import MACHINE_EVENTS
from tests.bench.lab import Ground, Load, fill, running

SETTINGS = WriterSettings()


@dataclass(frozen=True, slots=True)
class Throughput:
    """Events per second."""

    pipeline: float
    """One writer process: event → row → change."""
    read_and_parse: float
    """A ceiling: read the same events and parse them, nothing else."""
    write_rows: float
    """The other ceiling: write as many rows in batches of the same size, nothing else."""
    one_by_one: float
    """What it would be with a transaction for each event."""

    @property
    def ratio(self) -> float:
        """The pipeline against the lower ceiling."""
        return self.pipeline / min(self.read_and_parse, self.write_rows)


async def measure(ground: Ground, load: Load) -> Throughput:
    """All of it, one after the other, on labs of their own."""
    name = f"{load.size.name.lower()}_{load.machines}"
    main = await ground.new_lab(f"main_{name}")
    async with open_broker(main) as broker:
        await fill(broker, load.messages())
    read_and_parse = await _read_and_parse(main, load)
    return Throughput(
        pipeline=await pipeline(main, load.count),
        read_and_parse=read_and_parse,
        write_rows=await _write_rows(await ground.new_lab(f"rows_{name}"), load),
        one_by_one=await _one_by_one(
            await ground.new_lab(f"single_{name}"), Load(load.size, load.machines, min(load.count, 2000))
        ),
    )


async def two_writers(ground: Ground, load: Load) -> float:
    """Events per second of two writer processes on one topic."""
    lab = await ground.new_lab(f"two_{load.size.name.lower()}_{load.machines}")
    async with open_broker(lab) as broker:
        await fill(broker, load.messages())
    return await pipeline(lab, load.count, writers=2)


async def pipeline(lab: Connections, count: int, *arguments: str, writers: int = 1) -> float:
    """Start writers on a topic with `count` unread events, and time them in the middle of it.

    Neither the first quarter counts, in which they start and share the partitions, nor the last few events, when one of
    them may have nothing left: in between, as many batches are under way at the beginning as at the end.
    """
    begin, end = count * 3 // 4, count // 10
    async with open_broker(lab) as broker, asyncio.timeout(300):
        with ExitStack() as stack:
            processes = [
                stack.enter_context(running("consumers.description_writer", lab, *arguments))
                for _ in range(writers)
            ]
            began: tuple[float, int] | None = None
            while True:
                ended = [code for process in processes if (code := process.poll()) is not None]
                if ended:
                    raise RuntimeError(f"a writer ended with {ended[0]}")
                lags = await broker.lag(MACHINE_EVENTS, group=GROUP)
                now, unread = time.monotonic(), sum(partition.unread for partition in lags)
                if began is None and unread <= begin:
                    began = (now, unread)
                if began is not None and unread <= end:
                    return (began[1] - unread) / (now - began[0])
                await asyncio.sleep(0.02)


async def _read_and_parse(lab: Connections, load: Load) -> float:
    """Read what is there in the writer's batches, without a trace, and parse it."""
    async with (
        open_broker(lab) as broker,
        broker.subscribe(MACHINE_EVENTS, group=None, max_records=SETTINGS.max_records) as reader,
    ):
        began, done = time.monotonic(), 0
        async for batch in reader:
            changes, rejected = decode_all(batch.messages)
            assert not rejected
            done += len(changes)
            if done >= load.count:
                break
        return done / (time.monotonic() - began)


async def _write_rows(lab: Connections, load: Load) -> float:
    """Write heartbeats: the same number of rows in batches of the same size, changed by next to nothing."""
    ids = load_ids(load.machines)
    await create_machines(lab, ids)
    async with open_store(lab) as store:
        began, done = time.monotonic(), 0
        beat = 0
        while done < load.count:
            beat += 1
            done += await _beat(store, ids, beat)
        return done / (time.monotonic() - began)


async def create_machines(lab: Connections, ids: Sequence[str]) -> None:
    """Make a row for each id."""
    async with open_store(lab) as store:
        await _beat(store, ids, 0)


async def _beat(store: Store, ids: Sequence[str], number: int) -> int:
    now = SystemClock().now()
    rest = iter(ids)
    while part := list(islice(rest, SETTINGS.max_records)):
        await store.update_many({machine: [_Beat(number)] for machine in part}, now=now)
    return len(ids)


@dataclass(frozen=True, slots=True)
class _Beat:
    number: int

    def __call__(self, before: Description) -> Description:
        later = before.last_updated + timedelta(seconds=1)
        return before.model_copy(update={"last_updated": later, "battery": self.number % 100})


async def _one_by_one(lab: Connections, load: Load) -> float:
    """The old server's way: read an event, one transaction, publish its change, acknowledge."""
    async with open_broker(lab) as broker:
        await fill(broker, load.messages())
    return await pipeline(lab, load.count, "--max-records", "1", "--max-wait-ms", "0")
