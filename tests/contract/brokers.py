"""The brokers that pass `test_broker.py`, and what each needs for it. A new one adds a case, and its gaps by name."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, cast

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from pipeline.broker.catalogue import Catalogue
from pipeline.broker.embedded import EmbeddedBroker
from pipeline.broker.embedded_membership import GroupMembership
from pipeline.broker.embedded_subscription import EmbeddedSubscription
from pipeline.broker.kafka import KafkaBroker
from pipeline.broker.kafka_subscription import KafkaSubscription
from pipeline.broker.memory import MemoryBroker, MemorySubscription
from pipeline.broker.protocol import Broker, Subscription
from pipeline.broker.pubsub import PubsubBroker
from pipeline.broker.pubsub_subscription import PubsubSubscription
from pipeline.clock import ManualClock, SystemClock
from pipeline.settings import KafkaSettings, PubsubSettings
from tests.pubsub_double import PubsubDouble

LEASE: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class BrokerCase:
    """A broker under test."""

    broker: Broker
    other: Broker
    """The same broker as another process would see it."""
    clock: ManualClock
    """Decides what is old enough to be deleted; the broker's own clock may be another one."""
    trim: Callable[[], Awaitable[object]]
    """Delete what is older than its topic keeps it."""
    stall: Callable[[Subscription], None]
    """Make a member silent, as if its process had been stopped, until its lease has run out."""


@contextlib.asynccontextmanager
async def memory_case(_: pytest.FixtureRequest) -> AsyncIterator[BrokerCase]:
    """Everything in this process."""
    clock = ManualClock(SystemClock().now())
    broker = MemoryBroker(clock=clock)

    def stall(subscription: Subscription) -> None:
        member = cast("MemorySubscription", subscription)
        member._group.leave(member)

    yield BrokerCase(broker, broker, clock, broker.trim, stall)
    await broker.close()


@contextlib.asynccontextmanager
async def embedded_case(request: pytest.FixtureRequest) -> AsyncIterator[BrokerCase]:
    """On a real PostgreSQL."""
    url = request.getfixturevalue("database_url")
    clock = ManualClock(SystemClock().now())
    broker, other = (EmbeddedBroker(url, clock=clock, lease=LEASE) for _ in range(2))

    async def no_beat() -> None:
        await asyncio.Event().wait()

    def stall(subscription: Subscription) -> None:
        membership = cast("EmbeddedSubscription", subscription)._membership
        assert isinstance(membership, GroupMembership)
        membership.beat = no_beat  # type: ignore[method-assign]  # as if the process stood still

    yield BrokerCase(broker, other, clock, broker.trim, stall)
    await broker.close()
    await other.close()


class PassingClock(ManualClock):
    """Time also really passes: the server's own clock decides which message is older."""

    def advance(self, by: timedelta) -> None:
        """Move forward; the real clock by 2 ms, so that its milliseconds differ."""
        super().advance(by)
        time.sleep(0.002)


@contextlib.asynccontextmanager
async def kafka_case(request: pytest.FixtureRequest) -> AsyncIterator[BrokerCase]:
    """On a real Kafka."""
    settings = KafkaSettings((request.getfixturevalue("kafka_server").address,))
    catalogue = Catalogue(prefix=request.getfixturevalue("kafka_topic_prefix"))
    broker, other = (KafkaBroker(settings, catalogue, session=LEASE) for _ in range(2))
    clock = PassingClock(SystemClock().now())

    async def trim() -> None:
        """Kafka does that by itself, and cannot be told that days have passed: so do it in its name."""
        admin = AIOKafkaAdminClient(bootstrap_servers=list(settings.servers))
        await admin.start()
        try:
            for topic in (each for each in catalogue if not each.compacted):
                partitions = await broker._inspector.partitions(catalogue.full_name(topic.name))
                ends = await broker._inspector.offsets(partitions, clock.now() - topic.retention)
                await admin.delete_records({each: RecordsToDelete(end) for each, end in ends.items()})
        finally:
            await admin.close()

    def stall(subscription: Subscription) -> None:
        coordinator = cast("KafkaSubscription", subscription)._consumer._coordinator
        coordinator._do_heartbeat = asyncio.Event().wait

    await broker.create_topics()
    yield BrokerCase(broker, other, clock, trim, stall)
    await broker.close()
    await other.close()


@contextlib.asynccontextmanager
async def pubsub_case(_: pytest.FixtureRequest) -> AsyncIterator[BrokerCase]:
    """On a server that keeps the promises of Google's documentation."""
    clock = ManualClock(SystemClock().now())
    began = clock.now()

    def now() -> float:
        return (SystemClock().now() + (clock.now() - began)).timestamp()

    async def trim() -> None:
        """The server does that by itself."""

    def stall(subscription: Subscription) -> None:
        work = cast("PubsubSubscription", subscription)._work
        assert work is not None
        work.cancel()  # neither reads nor renews its leases

    deadline = timedelta(seconds=3)  # no less: renewals share the loop with everything else here
    async with PubsubDouble.running(now, shortest_deadline=1) as server:
        settings = PubsubSettings("lab", server.address)
        broker, other = (PubsubBroker(settings, ack_deadline=deadline) for _ in range(2))
        await broker.create_topics()
        yield BrokerCase(broker, other, clock, trim, stall)
        await broker.close()
        await other.close()


CASES: Final[Mapping[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[BrokerCase]]]] = {
    "memory": memory_case,
    "embedded": embedded_case,
    "kafka": kafka_case,
    "pubsub": pubsub_case,
}

MARKS: Final[Mapping[str, tuple[pytest.MarkDecorator, ...]]] = {
    "embedded": (pytest.mark.integration,),
    "kafka": (pytest.mark.integration,),
}

KNOWN_GAPS: Final[Mapping[tuple[str, str], str]] = {
    ("pubsub", "test_a_message_that_is_too_large_is_refused"): "Pub/Sub takes 10 MB at most, not 16 MiB",
    ("pubsub", "test_a_group_with_members_cannot_be_moved"): (
        "Pub/Sub tells nobody who reads a subscription: only members of the same process are seen"
    ),
}
"""Broker and test to the reason why that broker cannot keep that promise. Strict: a gap that has closed must go."""

LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
