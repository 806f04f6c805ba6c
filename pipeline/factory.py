"""Makes the store and the broker that the settings ask for. Nobody else knows the classes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import assert_never

from pipeline import metrics
from pipeline.broker.catalogue import Catalogue
from pipeline.broker.embedded import EmbeddedBroker
from pipeline.broker.protocol import Broker
from pipeline.errors import Misconfigured
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


def _count_retry(reason: str) -> None:
    metrics.TRANSACTION_RETRIES.labels(reason).inc()
