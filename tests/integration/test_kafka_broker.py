"""Kafka as the broker, where it can do what others cannot: rearrange groups, change its topics, be fed by strangers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from pipeline.broker import kafka_client, kafka_membership
from pipeline.broker.catalogue import MAX_MESSAGE_BYTES
from pipeline.broker.kafka import KafkaBroker
from pipeline.broker.protocol import Batch, Outgoing, TopicState
from pipeline.errors import BrokerUnavailable, LeaseLost, Rejected
from schemas.topics import MACHINE_CHANGES, MACHINE_EVENTS
from tests.integration.children import child, go_on, line_of
from tests.integration.kafka_lab import (
    BRIEF_S,
    PATIENCE_S,
    add_partitions,
    administration,
    broker_of,
    ended,
    events,
    follow,
    publish_patiently,
    settings_in,
    take,
    until_read,
)
from tests.servers.kinds import TestServer

pytestmark = pytest.mark.integration


@pytest.fixture
def server(kafka_server: TestServer) -> str:
    return kafka_server.address


@pytest.fixture
async def broker(server: str, kafka_topic_prefix: str) -> AsyncIterator[KafkaBroker]:
    broker = broker_of(server, kafka_topic_prefix)
    await broker.create_topics()
    yield broker
    await broker.close()


@pytest.fixture
async def other(server: str, kafka_topic_prefix: str) -> AsyncIterator[KafkaBroker]:
    """The same broker as another process would see it."""
    broker = broker_of(server, kafka_topic_prefix)
    yield broker
    await broker.close()


async def test_rearranging_a_group_again_and_again_repeats_nothing(
    broker: KafkaBroker, other: KafkaBroker
) -> None:
    """Members come and go while messages flow: each is read exactly once, for everybody finishes what is in hand."""
    read: Counter[int] = Counter()
    async with broker.subscribe(MACHINE_EVENTS, group="readers", max_records=20) as staying:
        veteran = asyncio.create_task(follow(staying, read))
        for turn in range(6):
            async with other.subscribe(MACHINE_EVENTS, group="readers", max_records=20) as coming:
                newcomer = asyncio.create_task(follow(coming, read))
                await broker.publish(events(range(turn * 200, turn * 200 + 200)))
                await until_read(broker)
                await ended(newcomer)
        await ended(veteran)
    assert read == Counter(range(1200))


async def test_a_reader_that_takes_too_long_holds_the_others_up_for_a_while_only(
    broker: KafkaBroker, server: str, kafka_topic_prefix: str
) -> None:
    """What it still has in hand is read by the newcomer where that got the partition, and is its own where not."""
    await broker.publish(events(range(200)))
    one, other = (broker_of(server, kafka_topic_prefix, session=timedelta(seconds=BRIEF_S)) for _ in range(2))
    read: Counter[int] = Counter()
    async with contextlib.aclosing(Closing(one)), contextlib.aclosing(Closing(other)):
        kept = await _read_beside_a_slow_one(one, other, read)
    assert kept
    assert not kept & read.keys()
    assert max(read.values()) == 1


async def _read_beside_a_slow_one(broker: KafkaBroker, other: KafkaBroker, read: Counter[int]) -> set[int]:
    """What the slow one could keep."""
    async with broker.subscribe(MACHINE_EVENTS, group="readers", max_records=200) as slow:
        in_hand: list[Batch] = []
        async for batch in slow:
            in_hand.append(batch)
            if sum(len(each.messages) for each in in_hand) == 200:
                break
        async with other.subscribe(MACHINE_EVENTS, group="readers") as new:
            newcomer = asyncio.create_task(follow(new, read))
            async with asyncio.timeout(PATIENCE_S):
                while not read:
                    await asyncio.sleep(0.02)
            for batch in in_hand:
                with contextlib.suppress(LeaseLost):
                    await slow.acknowledge(batch)
            kept = {int(message.value) for batch in in_hand for message in batch.messages} - read.keys()
            await until_read(broker)
            await ended(newcomer)
    return kept


async def test_a_member_that_lost_its_place_joins_again_and_goes_on(
    broker: KafkaBroker, server: str, kafka_topic_prefix: str
) -> None:
    """A paused process: others take its work over; when it wakes it is told, and then takes its share again."""
    with child("kafka_reader", server, kafka_topic_prefix, "readers", BRIEF_S) as process:
        assert await line_of(process) == "reading"
        await broker.publish(events(range(10), keys=1))
        assert await line_of(process) == " ".join(map(str, range(10)))
        process.send_signal(signal.SIGSTOP)
        async with broker.subscribe(MACHINE_EVENTS, group="readers") as heir:
            again = await take(heir, 10)
            process.send_signal(signal.SIGCONT)
            await go_on(process)
            assert await line_of(process) == "lost"
        assert [int(message.value) for message in again] == list(range(10))
        await broker.publish(events(range(10, 20), keys=1))
        seen: set[int] = set()
        while not seen >= set(range(10, 20)):
            seen |= set(map(int, (await line_of(process)).split()))
            await go_on(process)
            assert await line_of(process) == "done"
        assert not seen & set(range(10))


async def test_new_partitions_are_found_by_all_who_read(
    server: str, kafka_topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a group and without: from their first message on, and nothing else is read twice."""
    for module in (kafka_client, kafka_membership):
        monkeypatch.setattr(module, "METADATA_AGE_S", 0.3)
    async with contextlib.aclosing(Closing(broker_of(server, kafka_topic_prefix))) as closing:
        broker = closing.broker
        await broker.create_topics()
        together: Counter[int] = Counter()
        alone: Counter[int] = Counter()
        async with (
            broker.subscribe(MACHINE_EVENTS, group="readers") as member,
            broker.subscribe(MACHINE_EVENTS, group=None) as single,
        ):
            tasks = [
                asyncio.create_task(follow(member, together)),
                asyncio.create_task(follow(single, alone)),
            ]
            await broker.publish(events(range(100)))
            await add_partitions(server, f"{kafka_topic_prefix}.{MACHINE_EVENTS}", 12)
            async with asyncio.timeout(PATIENCE_S):
                published = 100
                while {
                    message.partition for message in await broker.fetch(MACHINE_EVENTS, limit=10_000)
                } != set(range(12)):
                    await broker.publish(events(range(published, published + 100), keys=100))
                    published += 100
                while len(together) < published or len(alone) < published:
                    await asyncio.sleep(0.02)
            await ended(*tasks)
    assert together == alone == Counter(range(published))


async def test_a_missing_topic_is_told_at_once(server: str, kafka_topic_prefix: str) -> None:
    """Whatever is asked of it; and nothing is created on the way."""
    async with contextlib.aclosing(Closing(broker_of(server, kafka_topic_prefix))) as closing:
        broker = closing.broker
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="labkeeper topics create"):
            await broker.publish(events(range(1)))
        for group in ("readers", None):
            with pytest.raises(BrokerUnavailable, match="labkeeper topics create"):
                async with broker.subscribe(MACHINE_EVENTS, group=group):
                    pass
        with pytest.raises(BrokerUnavailable, match="labkeeper topics create"):
            await broker.lag(MACHINE_EVENTS, group="readers")
        assert time.monotonic() - began < PATIENCE_S / 2
        await broker.create_topics()
        await broker.publish(events(range(1)))


async def test_a_topic_that_goes_is_missed(broker: KafkaBroker, server: str, kafka_topic_prefix: str) -> None:
    """Somebody deletes it under our feet: after a vague error the next one says what is wrong."""
    await broker.publish(events(range(1)))
    async with administration(server) as admin:
        await admin.delete_topics([f"{kafka_topic_prefix}.{MACHINE_EVENTS}"])
    told = ""
    async with asyncio.timeout(PATIENCE_S):
        while "labkeeper topics create" not in told:
            try:
                await broker.publish(events(range(1)))
            except BrokerUnavailable as error:
                told = str(error)


async def test_topics_get_the_settings_that_they_need(
    broker: KafkaBroker, server: str, kafka_topic_prefix: str
) -> None:
    """What differs is brought into line, what is more generous stays."""
    day_ms = 24 * 3600 * 1000
    events_topic, changes_topic = (
        f"{kafka_topic_prefix}.{name}" for name in (MACHINE_EVENTS, MACHINE_CHANGES)
    )
    async with administration(server) as admin:
        found = await settings_in(admin, events_topic)
        assert found["message.timestamp.type"] == "LogAppendTime"
        assert (found["cleanup.policy"], int(found["retention.ms"])) == ("delete", 2 * day_ms)
        assert int(found["max.message.bytes"]) > MAX_MESSAGE_BYTES
        found = await settings_in(admin, changes_topic)
        assert found["cleanup.policy"] == "compact"
        assert int(found["min.compaction.lag.ms"]) == int(found["delete.retention.ms"]) == 7 * day_ms

        changed = {"message.timestamp.type": "CreateTime", "retention.ms": "-1", "flush.messages": "7"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, events_topic, changed)])
        while (await settings_in(admin, events_topic))["flush.messages"] != "7":
            await asyncio.sleep(0.02)
        reports = {
            report.name: report for report in await broker.create_topics(partitions={MACHINE_EVENTS: 99})
        }
        assert reports.pop(events_topic).state is TopicState.CHANGED
        assert {report.state for report in reports.values()} == {TopicState.UNCHANGED}
        found = await settings_in(admin, events_topic)
    assert found["message.timestamp.type"] == "LogAppendTime"
    assert (found["retention.ms"], found["flush.messages"]) == ("-1", "7")


async def test_a_topic_that_takes_small_messages_only_refuses_large_ones(
    broker: KafkaBroker, server: str, kafka_topic_prefix: str
) -> None:
    """Somebody else made it: whoever published is told how to mend it, and nobody else is held up."""
    topic = f"{kafka_topic_prefix}.{MACHINE_EVENTS}"
    async with administration(server) as admin:
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "5000"})]
        )
        while (await settings_in(admin, topic))["max.message.bytes"] != "5000":
            await asyncio.sleep(0.02)
    with pytest.raises(Rejected, match="labkeeper topics create"):
        await broker.publish([Outgoing(MACHINE_EVENTS, "m", os.urandom(10_000))])
    await publish_patiently(broker, range(10))
    assert {int(message.value) for message in await broker.fetch(MACHINE_EVENTS)} == set(range(10))


async def test_a_log_that_is_another_one_is_read_from_its_beginning(
    broker: KafkaBroker, server: str, kafka_topic_prefix: str
) -> None:
    """A topic that was deleted and made again: the group's position lies behind its end."""
    await broker.publish(events(range(100), keys=1))
    async with broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
        await take(subscription, 100)
    partition = (await broker.fetch(MACHINE_EVENTS, limit=1))[0].partition
    await broker._inspector.commit(
        f"{kafka_topic_prefix}.{MACHINE_EVENTS}.readers",
        {TopicPartition(f"{kafka_topic_prefix}.{MACHINE_EVENTS}", partition): 1000},
    )
    assert sum(lag.unread for lag in await broker.lag(MACHINE_EVENTS, group="readers")) == 100
    async with broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
        assert len(await take(subscription, 100)) == 100


async def test_what_strangers_write_is_read(
    broker: KafkaBroker, server: str, kafka_topic_prefix: str
) -> None:
    """No key, odd bytes, null values, a header twice: all taken; on a compacted topic, empty is null and back."""
    async with AIOKafkaProducer(bootstrap_servers=server) as producer:
        topic = f"{kafka_topic_prefix}.{MACHINE_EVENTS}"
        odd = [("h", b"\xff"), ("twice", b"1"), ("twice", b"2")]
        await producer.send_and_wait(topic, b"v", partition=0)
        await producer.send_and_wait(topic, None, b"\xff\x00", partition=0, headers=odd)
    first, second = await broker.fetch(MACHINE_EVENTS)
    assert (first.key, first.value, dict(first.headers)) == ("", b"v", {})
    assert (second.key, second.value) == ("\ufffd\0", b"")
    assert dict(second.headers) == {"h": "\ufffd", "twice": "2"}

    await broker.publish([Outgoing(MACHINE_CHANGES, "m", b"", {"labkeeper_version": "7"})])
    (deleted,) = await broker.fetch(MACHINE_CHANGES)
    assert (deleted.key, deleted.value, dict(deleted.headers)) == ("m", b"", {"labkeeper_version": "7"})


@pytest.mark.skipif(shutil.which("kcat") is None, reason="needs kcat: no other client writes such headers")
@pytest.mark.parametrize("group", ["readers", None])
async def test_what_cannot_be_read_is_stepped_over(
    broker: KafkaBroker, server: str, kafka_topic_prefix: str, group: str | None
) -> None:
    """A header whose name is no text stops nobody; what was fetched together with it is not lost."""
    await broker.publish(events(range(50)))
    topic = f"{kafka_topic_prefix}.{MACHINE_EVENTS}"
    for partition in (b"0", b"3"):
        command = [
            b"kcat",
            b"-P",
            b"-b",
            server.encode(),
            b"-t",
            topic.encode(),
            b"-p",
            partition,
            b"-H",
            b"\xff=1",
        ]
        await asyncio.to_thread(subprocess.run, command, input=b"unreadable", check=True, timeout=PATIENCE_S)
    await broker.publish(events(range(50, 100)))
    async with broker.subscribe(MACHINE_EVENTS, group=group) as subscription:
        messages = await take(subscription, 100)
    assert sorted(int(message.value) for message in messages) == list(range(100))


async def test_the_largest_messages_pass_however_little_they_compress(
    broker: KafkaBroker, other: KafkaBroker
) -> None:
    """Several at once, too, on all partitions of a node."""
    large = [os.urandom(MAX_MESSAGE_BYTES - 100) for _ in range(3)]
    await broker.publish(
        [Outgoing(MACHINE_EVENTS, f"m-{number}", value) for number, value in enumerate(large)]
    )
    async with other.subscribe(MACHINE_EVENTS, group="readers") as subscription:
        messages = await take(subscription, 3)
    assert sorted(message.value for message in messages) == sorted(large)


class Closing:
    """A broker for `contextlib.aclosing`."""

    def __init__(self, broker: KafkaBroker) -> None:
        self.broker = broker

    async def aclose(self) -> None:
        await self.broker.close()
