"""Tells the store that the façade is at work. Machines report through it, so while it is not, nobody is judged silent."""

from __future__ import annotations

import asyncio

from consumers.facade.settings import FacadeSettings
from pipeline import logs
from pipeline.broker.protocol import Broker
from pipeline.clock import Clock
from pipeline.errors import Retryable
from pipeline.service import wait_for
from pipeline.store.protocol import ProgressLog

SERVICE = "facade"

log = logs.get_logger()


async def tell_progress(
    store: ProgressLog,
    broker: Broker,
    clock: Clock,
    settings: FacadeSettings,
    *,
    instance: str,
    stop: asyncio.Event,
) -> None:
    """Record every few seconds that events can come in, until `stop` is set."""
    while True:
        try:
            await broker.check()  # an event that the broker cannot take is turned away
            now = clock.now()
            await store.record(SERVICE, {instance: now}, now=now)
        except Retryable as error:
            log.warning("progress_not_recorded", reason=str(error))
        if await wait_for(stop, settings.progress_every.total_seconds()):
            return
