"""What a user might try first: a Faust app that reads `machine.events` and does the writer's work in an agent.

`python -m tests.bench.faust_alone MODE COUNT`, with the lab in the environment, prints the events per second that it
made of COUNT events; see `Mode`. The agent uses our own parser, processor and store, so that only the reading differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import faust

from consumers.description_writer.decode import EventChange, decode_all
from consumers.description_writer.settings import WriterSettings
from pipeline.broker.protocol import Received
from pipeline.factory import open_broker, open_store
from pipeline.processor.pools import Pools
from pipeline.settings import BrokerKind, Connections, KafkaSettings
from pipeline.store.messages import change_message
from schemas.topics import MACHINE_EVENTS
from tests.bench.lab import environment

_SETTINGS = WriterSettings()


class Mode(StrEnum):
    """What the agent does with the events."""

    READ_AND_PARSE = "read-and-parse"
    ONE_BY_ONE = "one-by-one"
    """A transaction and a change for each, as Faust's documentation writes agents."""
    BATCHES = "batches"
    """`stream.take`: as many as the writer takes, one transaction for all."""


async def rate(lab: Connections, mode: Mode, count: int) -> float:
    """Events per second of a Faust worker in a process of its own, on a topic with `count` events."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        mode.value,
        str(count),
        env=environment(lab),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(300):
        out, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"Faust ended with {process.returncode}")
    return float(out)


class _Tally:
    """Counts events from the first to the last."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._done = 0
        self._began: float | None = None
        self.result: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def begin(self) -> None:
        """An event is in hand."""
        if self._began is None:
            self._began = time.monotonic()

    def add(self, number: int) -> None:
        """So many more are done."""
        self._done += number
        if self._done >= self._count and self._began is not None and not self.result.done():
            self.result.set_result(self._done / (time.monotonic() - self._began))


async def _measure(lab: Connections, mode: Mode, count: int, folder: str) -> float:
    app = faust.App(
        f"{lab.topic_prefix}-faust-{mode.value}",
        broker=f"kafka://{lab.kafka.servers[0]}",
        value_serializer="raw",
        key_serializer="raw",
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        datadir=folder,
    )
    events = app.topic(f"{lab.topic_prefix}.{MACHINE_EVENTS}")
    tally = _Tally(count)
    async with open_store(lab) as store, open_broker(lab) as broker:

        async def apply(messages: Sequence[Received]) -> None:
            changes, rejected = decode_all(messages)
            assert not rejected
            if mode is not Mode.READ_AND_PARSE:
                updated = await store.update_many(_by_machine(changes), now=messages[-1].published_at)
                await broker.publish([change_message(update, "faust") for update in updated])
            tally.add(len(messages))

        async def one_by_one(stream: Any) -> None:
            async for event in stream.events():
                tally.begin()
                await apply([_received(event)])

        async def batches(stream: Any) -> None:
            async for taken in stream.take_events(_SETTINGS.max_records, within=_SETTINGS.max_wait):
                tally.begin()
                await apply([_received(event) for event in taken])

        app.agent(events)(batches if mode is Mode.BATCHES else one_by_one)
        async with _running(app):
            return await tally.result


@contextlib.asynccontextmanager
async def _running(app: Any) -> AsyncIterator[None]:
    await app.start()
    try:
        yield
    finally:
        await app.stop()


def _by_machine(changes: Sequence[EventChange]) -> dict[str, list[EventChange]]:
    grouped: dict[str, list[EventChange]] = {}
    for change in changes:
        grouped.setdefault(change.machine_id, []).append(change)
    return grouped


def _received(event: Any) -> Received:
    message = event.message
    at = datetime.fromtimestamp(message.timestamp, UTC)
    return Received(
        MACHINE_EVENTS, message.partition, message.offset, message.key.decode(), message.value, {}, at
    )


def main() -> None:
    """Measure once, in this process."""
    mode, count = Mode(sys.argv[1]), int(sys.argv[2])
    lab = Connections(
        os.environ["LABKEEPER_DATABASE_URL"],
        BrokerKind.KAFKA,
        os.environ["LABKEEPER_TOPIC_PREFIX"],
        Pools([("Lab", "")]),
        KafkaSettings((os.environ["LABKEEPER_KAFKA_SERVERS"],)),
    )
    with tempfile.TemporaryDirectory(prefix="labkeeper-faust-") as folder:
        print(asyncio.run(_measure(lab, mode, count, folder)))  # noqa: T201  # the parent reads it


if __name__ == "__main__":
    main()
