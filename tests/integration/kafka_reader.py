"""A process that reads from Kafka in a group and says what it does: run by tests, to be paused.

Arguments: server, topic prefix, group, session in seconds. Prints `reading`, then the values of each batch; acknowledges
it when a line comes in, and prints `done`, or `lost` when that came too late.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from pipeline import logs
from pipeline.broker.catalogue import Catalogue
from pipeline.broker.kafka import KafkaBroker
from pipeline.errors import LeaseLost
from pipeline.settings import KafkaSettings
from schemas.topics import MACHINE_EVENTS


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def main(server: str, prefix: str, group: str, session_s: float) -> None:
    logs.configure("kafka_reader")
    session = timedelta(seconds=session_s)
    broker = KafkaBroker(KafkaSettings((server,)), Catalogue(prefix=prefix), session=session)
    async with broker.subscribe(MACHINE_EVENTS, group=group) as subscription:
        say("reading")
        async for batch in subscription:
            say(" ".join(message.value.decode() for message in batch.messages))
            await asyncio.to_thread(sys.stdin.readline)
            try:
                await subscription.acknowledge(batch)
            except LeaseLost:
                say("lost")
            else:
                say("done")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
