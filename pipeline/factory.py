"""Makes the store and the broker that the settings ask for. Nobody else knows the classes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, assert_never

from pipeline import logs, metrics
from pipeline.broker.catalogue import Catalogue
from pipeline.broker.embedded import EmbeddedBroker
from pipeline.broker.protocol import Broker
from pipeline.errors import Misconfigured
from pipeline.settings import BrokerKind, Connections
from pipeline.store.faults import CONNECTION
from pipeline.store.sql import SqlStore

_QUIET_S: Final = 30.0

log = logs.get_logger()


@asynccontextmanager
async def open_store(connections: Connections, stop: asyncio.Event | None = None) -> AsyncIterator[SqlStore]:
    """The store, closed at the end. It connects when first used. Once `stop` is set, it waits for no database that is away."""
    store = SqlStore(connections.database_url, pools=connections.pools, on_retry=_RetryLog())
    hurrying = asyncio.create_task(_hurry_after(stop, store)) if stop is not None else None
    try:
        yield store
    finally:
        if hurrying is not None:
            hurrying.cancel()
        await store.close()


async def _hurry_after(stop: asyncio.Event, store: SqlStore) -> None:
    await stop.wait()
    store.hurry()


class _RetryLog:
    """Counts the store's retries, and tells at once, though not each time, when the database is away."""

    def __init__(self) -> None:
        self._quiet_until = -math.inf

    def __call__(self, reason: str, fault: str) -> None:
        metrics.TRANSACTION_RETRIES.labels(reason).inc()
        now = time.monotonic()
        if reason == CONNECTION and now >= self._quiet_until:
            self._quiet_until = now + _QUIET_S
            log.warning("store_unavailable", reason=fault, note="trying again")


@asynccontextmanager
async def open_broker(connections: Connections) -> AsyncIterator[Broker]:
    """The broker, closed at the end. It connects when first used."""
    catalogue = Catalogue(prefix=connections.topic_prefix)
    match connections.broker:
        case BrokerKind.EMBEDDED:
            broker: Broker = EmbeddedBroker(connections.database_url, catalogue)
        case BrokerKind.KAFKA:
            with _needing("aiokafka", extra="kafka"):
                from pipeline.broker.kafka import KafkaBroker  # noqa: PLC0415  # an extra

            broker = KafkaBroker(connections.kafka, catalogue)
        case BrokerKind.PUBSUB:
            with _needing("google.cloud.pubsub", extra="pubsub"):
                from pipeline.broker.pubsub import PubsubBroker  # noqa: PLC0415  # an extra

            broker = PubsubBroker(connections.pubsub, catalogue)
        case _:
            assert_never(connections.broker)
    try:
        yield broker
    finally:
        await broker.close()


@contextmanager
def _needing(package: str, extra: str) -> Iterator[None]:
    """Say what to install when the client library of a broker is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package.partition(".")[0]:
            raise
        raise Misconfigured(
            f"this broker needs the package {package!r}, which is not installed: pip install 'labkeeper[{extra}]'"
        ) from error
