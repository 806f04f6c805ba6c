"""Asking the broker, as a process starts, whether it is there and lets us in."""

from __future__ import annotations

import asyncio

from pipeline import logs
from pipeline.broker.protocol import Broker
from pipeline.errors import Retryable

log = logs.get_logger()


async def greet(broker: Broker, stop: asyncio.Event) -> None:
    """Ask once: a process that stands by would else find out when it is needed. Ends early when `stop` is set.

    A broker that is away is only told of in the log. Raises `Misconfigured` if it turns us away.
    """
    stopped = asyncio.ensure_future(stop.wait())
    check = asyncio.ensure_future(broker.check())
    try:
        await asyncio.wait({check, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if check.done():
            check.result()
    except Retryable as error:
        log.warning("broker_unavailable", reason=str(error), note="going on; what needs it will try again")
    finally:
        stopped.cancel()
        if not check.done():
            check.cancel()
            await asyncio.wait({check})
