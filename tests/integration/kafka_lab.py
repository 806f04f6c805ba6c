"""What tests on a real Kafka share."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from infra.servers.kafka.server import KafkaServer
from pipeline.broker.catalogue import Catalogue
from pipeline.broker.kafka import KafkaBroker
from pipeline.broker.protocol import Outgoing, Received, Subscription
from pipeline.errors import BrokerUnavailable, LeaseLost
from pipeline.settings import KafkaSettings
from schemas.topics import MACHINE_EVENTS
from tests.servers.kafka import KAFKA, VERSION
from tests.servers.kinds import temporary_folder

PATIENCE_S: Final = 60.0
BRIEF_S: Final = 2.0
"""For sessions and patience that a test has run out; with others a busy computer is given time."""


def broker_of(address: str, prefix: str = "labkeeper", **options: Any) -> KafkaBroker:
    options = {"session": timedelta(seconds=10), "patience": timedelta(seconds=60), **options}
    return KafkaBroker(KafkaSettings((address,)), Catalogue(prefix=prefix), **options)


def events(numbers: range, *, keys: int = 40) -> list[Outgoing]:
    return [Outgoing(MACHINE_EVENTS, f"machine-{number % keys}", str(number).encode()) for number in numbers]


async def take(subscription: Subscription, count: int) -> list[Received]:
    messages: list[Received] = []
    async with asyncio.timeout(PATIENCE_S):
        async for batch in subscription:
            messages += batch.messages
            await subscription.acknowledge(batch)
            if len(messages) >= count:
                break
    return messages


async def follow(subscription: Subscription, read: Counter[int]) -> None:
    async for batch in subscription:
        read.update(int(message.value) for message in batch.messages)
        with contextlib.suppress(LeaseLost):
            await subscription.acknowledge(batch)


async def until_read(broker: KafkaBroker, group: str = "readers") -> None:
    async with asyncio.timeout(PATIENCE_S):
        while sum(lag.unread for lag in await broker.lag(MACHINE_EVENTS, group=group)):
            await asyncio.sleep(0.02)


async def ended(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@contextlib.contextmanager
def own_server(version: str = VERSION) -> Iterator[KafkaServer]:
    with KAFKA.needed(), temporary_folder() as folder, KafkaServer.start(folder, version=version) as server:
        yield server


@contextlib.asynccontextmanager
async def administration(server: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=server)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def settings_in(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    (resource,) = response.resources
    return {entry[0]: entry[1] for entry in resource[4]}


async def add_partitions(server: str, topic: str, count: int) -> None:
    async with administration(server) as admin:
        await admin.create_partitions({topic: NewPartitions(count)})


async def publish_patiently(broker: KafkaBroker, numbers: range) -> None:
    while True:
        try:
            await broker.publish(events(numbers, keys=100))
        except BrokerUnavailable:
            await asyncio.sleep(0.1)
        else:
            return
