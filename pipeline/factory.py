"""Makes the store and the broker that the settings ask for. Nobody else knows the classes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import assert_never

from pipeline import metrics
from pipeline.broker.catalogue import Catalogue
from pipeline.broker.embedded import EmbeddedBroker
from pipeline.broker.protocol import Broker
from pipeline.settings import BrokerKind, Connections
from pipeline.store.sql import SqlStore


@asynccontextmanager
async def open_store(connections: Connections) -> AsyncIterator[SqlStore]:
    """The store, closed at the end. It connects when first used."""
    store = SqlStore(connections.database_url, pools=connections.pools, on_retry=_count_retry)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_broker(connections: Connections) -> AsyncIterator[Broker]:
    """The broker, closed at the end. It connects when first used."""
    match connections.broker:
        case BrokerKind.EMBEDDED:
            broker = EmbeddedBroker(connections.database_url, Catalogue(prefix=connections.topic_prefix))
        case _:
            assert_never(connections.broker)
    try:
        yield broker
    finally:
        await broker.close()


def _count_retry(reason: str) -> None:
    metrics.TRANSACTION_RETRIES.labels(reason).inc()
