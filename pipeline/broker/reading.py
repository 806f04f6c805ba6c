"""Reading a subscription until the process is asked to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pipeline.broker.protocol import Batch, Subscription


async def until_stopped(reader: Subscription, stop: asyncio.Event) -> AsyncIterator[Batch]:
    """Batches as they come, until `stop` is set; also while none comes."""
    stopped = asyncio.ensure_future(stop.wait())
    batches = aiter(reader)
    try:
        while not stop.is_set():
            coming = asyncio.ensure_future(anext(batches))
            try:
                await asyncio.wait({coming, stopped}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not coming.done():
                    coming.cancel()
                    await asyncio.wait({coming})
            if coming.cancelled():
                return
            yield coming.result()
    finally:
        stopped.cancel()
