"""A process that reads from the embedded broker and says what it does: run by tests, to be killed.

Arguments: database URL, group, lease in seconds. Prints `reading`, then the values of each batch, and acknowledges all
but messages whose value is `hold`: with those in hand it waits for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from datetime import timedelta

from pipeline import logs
from pipeline.broker.embedded import EmbeddedBroker
from pipeline.errors import LeaseLost
from schemas.topics import MACHINE_EVENTS


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def main(url: str, group: str, lease_s: float) -> None:
    logs.configure("embedded_reader")
    broker = EmbeddedBroker(url, lease=timedelta(seconds=lease_s))
    async with broker.subscribe(MACHINE_EVENTS, group=group) as subscription:
        say("reading")
        async for batch in subscription:
            say(" ".join(message.value.decode() for message in batch.messages))
            if any(message.value == b"hold" for message in batch.messages):
                await asyncio.Event().wait()
            with contextlib.suppress(LeaseLost):
                await subscription.acknowledge(batch)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
