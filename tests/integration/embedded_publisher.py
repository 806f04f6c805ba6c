"""A process that publishes to the embedded broker: run by tests, several at once.

Arguments: database URL, first number, count. Publishes numbered messages in lists of ten, from two tasks.
"""

from __future__ import annotations

import asyncio
import sys

from pipeline.broker.embedded import EmbeddedBroker
from pipeline.broker.protocol import Outgoing
from schemas.topics import MACHINE_EVENTS


async def main(url: str, first: int, count: int) -> None:
    broker = EmbeddedBroker(url)

    async def publish(begin: int, end: int) -> None:
        for at in range(begin, end, 10):
            await broker.publish(
                [
                    Outgoing(MACHINE_EVENTS, f"machine-{number % 40}", str(number).encode())
                    for number in range(at, min(at + 10, end))
                ]
            )

    middle = first + count // 2
    await asyncio.gather(publish(first, middle), publish(middle, first + count))
    await broker.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
