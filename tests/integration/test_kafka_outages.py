"""Kafka that goes away, and Kafka of another version: each test has a server of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest

from infra.servers.kafka.server import KafkaServer
from pipeline.broker.kafka import KafkaBroker
from pipeline.broker.protocol import Received, Subscription, TopicState
from pipeline.errors import BrokerUnavailable
from schemas.topics import MACHINE_EVENTS, TOPICS
from tests.integration.kafka_lab import (
    BRIEF_S,
    PATIENCE_S,
    broker_of,
    ended,
    events,
    own_server,
    publish_patiently,
    take,
    until_read,
)

pytestmark = pytest.mark.integration
OTHER_VERSION = "3.9.2"


@pytest.fixture(scope="module")
def frail() -> Iterator[KafkaServer]:
    """A server that tests may kill."""
    with own_server() as server:
        yield server


async def test_a_broker_that_is_away_is_waited_for(frail: KafkaServer) -> None:
    """Publishing is refused within its patience and goes on afterwards; readers notice nothing; all is told in order."""
    broker = broker_of(frail.bootstrap, "waited-for", patience=timedelta(seconds=BRIEF_S))
    try:
        await broker.create_topics()
        read: list[Received] = []
        async with broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
            reader = asyncio.create_task(patiently(subscription, read))
            await publish_patiently(broker, range(100))
            await until_read(broker)
            frail.kill()
            refused = await publish_until_refused(broker)
            with pytest.raises(BrokerUnavailable):
                await broker.check()
            frail.restart()
            async with asyncio.timeout(PATIENCE_S):
                await publish_patiently(broker, range(100, 200))
                await publish_patiently(broker, range(200, 300))
            await until_read(broker)
            await ended(reader)
    finally:
        await broker.close()
    assert refused < PATIENCE_S / 2
    assert_in_order(read)
    assert {int(message.value) for message in read} == set(range(300))


async def test_a_broker_that_is_away_does_not_hold_up_the_end(frail: KafkaServer) -> None:
    """Closing gives up on what cannot be sent, within bounds; who waited for it is told."""
    if not frail.running:
        frail.restart()
    broker = broker_of(frail.bootstrap, "the-end", patience=timedelta(seconds=2 * PATIENCE_S))
    await broker.create_topics()
    async with broker.subscribe(MACHINE_EVENTS, group="readers"):
        await broker.publish(events(range(10)))
        frail.kill()
        publishing = asyncio.create_task(broker.publish(events(range(10, 20))))
        await asyncio.sleep(0)
        began = time.monotonic()
        await broker.close()
    assert time.monotonic() - began < PATIENCE_S / 2
    with pytest.raises(BrokerUnavailable):
        await publishing


async def test_the_older_kafka_will_do() -> None:
    """Version 3.9 as well as 4: topics, publishing, groups, lag, positions."""
    with own_server(OTHER_VERSION) as server:
        broker = broker_of(server.bootstrap)
        try:
            assert len(await broker.create_topics()) == len(TOPICS)
            await broker.publish(events(range(100)))
            async with broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
                assert len(await take(subscription, 100)) == 100
            await until_read(broker)
            reports = await broker.create_topics()
            assert {report.state for report in reports} == {TopicState.UNCHANGED}
        finally:
            await broker.close()


async def publish_until_refused(broker: KafkaBroker) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        await broker.publish(events(range(100, 200), keys=100))
    return time.monotonic() - began


async def patiently(subscription: Subscription, read: list[Received]) -> None:
    async for batch in subscription:
        read += batch.messages
        while True:
            try:
                await subscription.acknowledge(batch)
            except BrokerUnavailable:
                await asyncio.sleep(0.1)
            else:
                break


def assert_in_order(messages: Sequence[Received]) -> None:
    """Each key's messages in their order; the same one may come again before the next."""
    latest: dict[str, int] = {}
    for message in messages:
        assert int(message.value) >= latest.get(message.key, -1)
        latest[message.key] = int(message.value)
