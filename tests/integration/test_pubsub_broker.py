"""The Pub/Sub broker: on Google's own fake server (or emulator), and on a stand-in that keeps what Google's leaves out."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final

import grpc
import pytest

from pipeline.broker import pubsub_service, pubsub_topics
from pipeline.broker.catalogue import Catalogue
from pipeline.broker.deadletter import DeadLetters
from pipeline.broker.protocol import Batch, From, Outgoing, Received, Subscription, TopicState
from pipeline.broker.pubsub import PubsubBroker
from pipeline.broker.pubsub_service import NotThere, Service
from pipeline.broker.pubsub_subscription import PubsubSubscription
from pipeline.broker.pubsub_wire import Names, PubsubMessage
from pipeline.clock import SystemClock
from pipeline.errors import BrokerUnavailable, LeaseLost, Misconfigured, Rejected
from pipeline.settings import PubsubSettings
from schemas import envelope
from schemas.ids import new_ulid
from schemas.topics import MACHINE_CHANGES, MACHINE_EVENTS, Topic, dead_letters_of
from tests.pubsub_double import PubsubDouble, Refused
from tests.servers.kinds import TestServer

pytestmark = pytest.mark.integration

PATIENCE_S: Final = 60.0
DEADLINE: Final = timedelta(seconds=2)
PAUSE_S: Final = 0.3
"""Several rounds of the server, in which it sends what it may."""
PROJECT: Final = "labkeeper-test"
GROUPS: Final[Mapping[str, Sequence[str]]] = {
    MACHINE_EVENTS: ("readers",),
    dead_letters_of(MACHINE_EVENTS): ("operators",),
}


def event(key: str, value: object = "") -> Outgoing:
    return Outgoing(MACHINE_EVENTS, key, str(value).encode())


def events(numbers: range, *, keys: int = 40) -> list[Outgoing]:
    return [event(f"machine-{number % keys}", number) for number in numbers]


def values(messages: Sequence[Received]) -> list[int]:
    return sorted(int(message.value) for message in messages)


async def take(subscription: Subscription, count: int, *, acknowledge: bool = True) -> list[Batch]:
    batches: list[Batch] = []
    async with asyncio.timeout(PATIENCE_S):
        async for batch in subscription:
            batches.append(batch)
            if acknowledge:
                await subscription.acknowledge(batch)
            if sum(len(each.messages) for each in batches) >= count:
                break
    return batches


def messages_of(batches: Sequence[Batch]) -> list[Received]:
    return [message for batch in batches for message in batch.messages]


def die(subscription: Subscription) -> None:
    """As if the member's process had been killed: it gives nothing back."""
    assert isinstance(subscription, PubsubSubscription)
    assert subscription._work is not None
    subscription._work.cancel()
    subscription._leases._held.clear()


def ack_ids_of(subscription: PubsubSubscription) -> set[str]:
    return {held.ack_id for held in subscription._leases._held.values()}


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():
            await asyncio.sleep(0.005)


def leased(server: PubsubDouble, group: str) -> int:
    """How many messages are with readers of the subscription."""
    (found,) = (each for name, each in server.subscriptions.items() if f".{group}" in name)
    return sum(item.stream is not None for lane in found.lanes.values() for item in lane)


async def most_leased(server: PubsubDouble, group: str, *, for_s: float) -> int:
    most = 0
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        most = max(most, leased(server, group))
        await asyncio.sleep(0.005)
    return most


@pytest.fixture
async def fake(pubsub_server: TestServer) -> AsyncIterator[PubsubBroker]:
    """On Google's fake server, or its emulator; every test in a lab of its own."""
    catalogue = Catalogue(prefix=f"lab-{new_ulid().lower()}")
    settings = PubsubSettings(PROJECT, pubsub_server.address)
    broker = PubsubBroker(settings, catalogue, ack_deadline=timedelta(seconds=10), groups=GROUPS)
    await broker.create_topics()
    yield broker
    await broker.close()


@pytest.fixture
async def server() -> AsyncIterator[PubsubDouble]:
    async with PubsubDouble.running(shortest_deadline=1) as double:
        yield double


@pytest.fixture
async def broker(server: PubsubDouble) -> AsyncIterator[PubsubBroker]:
    broker = PubsubBroker(PubsubSettings(PROJECT, server.address), ack_deadline=DEADLINE, groups=GROUPS)
    await broker.create_topics()
    yield broker
    await broker.close()


class TestOnGooglesServer:
    async def test_what_is_sent_arrives_in_order_and_as_it_was(self, fake: PubsubBroker) -> None:
        headers = {"ce_id": "1", "empty": "", "long": "ä" * 2000, "goog_name": "x", "umlaut": "ä\n"}
        sent = [
            Outgoing(MACHINE_EVENTS, "rack4-07", b'{"a": 1}', headers),
            Outgoing(MACHINE_EVENTS, "rack4-07", b""),
            *(event("rack4-07", number) for number in range(10)),
        ]
        await fake.publish(sent)
        async with fake.subscribe(MACHINE_EVENTS, group="readers") as subscription:
            received = messages_of(await take(subscription, 12))
        assert [Outgoing(m.topic, m.key, m.value, dict(m.headers)) for m in received] == sent
        offsets = [message.offset for message in received]
        assert offsets == sorted(set(offsets))

    async def test_two_members_read_everything_once_and_each_machine_in_order(
        self, fake: PubsubBroker
    ) -> None:
        read: list[Received] = []
        done = asyncio.Event()

        async def follow(subscription: Subscription) -> None:
            async for batch in subscription:
                read.extend(batch.messages)
                await subscription.acknowledge(batch)
                if len(read) >= 200:
                    done.set()

        async with (
            fake.subscribe(MACHINE_EVENTS, group="readers") as one,
            fake.subscribe(MACHINE_EVENTS, group="readers") as two,
        ):
            followers = [asyncio.create_task(follow(member)) for member in (one, two)]
            await fake.publish(events(range(200)))
            async with asyncio.timeout(PATIENCE_S):
                await done.wait()
            for follower in followers:
                follower.cancel()
            await asyncio.wait(followers)
        assert values(read) == list(range(200))
        by_key = defaultdict(list)
        for message in read:
            by_key[message.key].append(int(message.value))
        assert all(numbers == sorted(numbers) for numbers in by_key.values())

    async def test_what_a_leaving_member_did_not_acknowledge_is_read_at_once(
        self, fake: PubsubBroker
    ) -> None:
        await fake.publish([event("machine-1", 1)])
        async with fake.subscribe(MACHINE_EVENTS, group="readers") as subscription:
            await take(subscription, 1, acknowledge=False)
        began = time.monotonic()
        async with fake.subscribe(MACHINE_EVENTS, group="readers") as subscription:
            assert values(messages_of(await take(subscription, 1))) == [1]
        assert time.monotonic() - began < 9  # the ack deadline has 10 s

    async def test_topics_are_made_once(self, fake: PubsubBroker) -> None:
        assert {report.state for report in await fake.create_topics()} == {TopicState.UNCHANGED}

    async def test_a_replica_gets_what_comes_next_and_leaves_nothing_behind(
        self, fake: PubsubBroker, pubsub_server: TestServer
    ) -> None:
        async with fake.subscribe(MACHINE_CHANGES, group=None, start=From.LATEST) as subscription:
            assert isinstance(subscription, PubsubSubscription)
            name = subscription._options.subscription
            await fake.publish([Outgoing(MACHINE_CHANGES, "machine-1", b"{}")])
            assert [message.value for message in messages_of(await take(subscription, 1))] == [b"{}"]
        service = Service(PubsubSettings(PROJECT, pubsub_server.address))
        with pytest.raises(NotThere):
            await service.call(pubsub_service.GET_SUBSCRIPTION, subscription=name)
        await service.close()


class TestLeases:
    async def test_a_batch_stays_ours_for_longer_than_the_ack_deadline(
        self, broker: PubsubBroker, server: PubsubDouble
    ) -> None:
        await broker.publish(events(range(20)))
        async with (
            broker.subscribe(MACHINE_EVENTS, group="readers") as slow,
            broker.subscribe(MACHINE_EVENTS, group="readers") as greedy,
        ):
            taking = asyncio.create_task(take(greedy, 20))
            held = await take(slow, 1, acknowledge=False)
            deadline = time.monotonic() + 2.5 * DEADLINE.total_seconds()
            while time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            await slow.acknowledge(held[0])
            taking.cancel()
            await asyncio.wait([taking])
        assert server.calls["ModifyAckDeadline"] >= 6
        deliveries = [
            item.deliveries
            for subscription in server.subscriptions.values()
            for lane in subscription.lanes.values()
            for item in lane
        ]
        assert all(count <= 1 for count in deliveries)

    async def test_a_dead_members_messages_are_read_by_another_when_their_deadline_has_passed(
        self, broker: PubsubBroker
    ) -> None:
        await broker.publish(events(range(50)))
        async with broker.subscribe(MACHINE_EVENTS, group="readers") as dying:
            lost = await take(dying, 50, acknowledge=False)
            die(dying)
            died = time.monotonic()
            async with broker.subscribe(MACHINE_EVENTS, group="readers") as heir:
                again = messages_of(await take(heir, 50))
            assert time.monotonic() - died < DEADLINE.total_seconds() + 20
            with pytest.raises(LeaseLost, match="held for too long"):
                await dying.acknowledge(lost[0])
        assert values(again) == list(range(50))

    async def test_a_message_that_comes_again_while_it_is_worked_on_is_not_handed_out_twice(
        self, broker: PubsubBroker, server: PubsubDouble
    ) -> None:
        await broker.publish(events(range(10)))
        async with broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
            held = await take(subscription, 10, acknowledge=False)
            assert isinstance(subscription, PubsubSubscription)
            items = [
                item
                for each in server.subscriptions.values()
                for lane in each.lanes.values()
                for item in lane
            ]
            for item in items:
                item.leased_until = 0.0  # the server forgets, and sends them again
            async with asyncio.timeout(PATIENCE_S):
                while not all(
                    item.deliveries == 2 and item.ack_id in ack_ids_of(subscription) for item in items
                ):
                    await asyncio.sleep(0.005)
            await broker.publish([event("another", 10)])
            more = await take(subscription, 1, acknowledge=False)
            for batch in (*held, *more):
                await subscription.acknowledge(batch)
        assert values(messages_of([*held, *more])) == list(range(11))
        assert sum(lag.unread for lag in await broker.lag(MACHINE_EVENTS, group="readers")) == 0

    async def test_an_acknowledgement_that_failed_can_be_repeated(
        self, broker: PubsubBroker, server: PubsubDouble
    ) -> None:
        await broker.publish(events(range(10)))
        async with broker.subscribe(
            MACHINE_EVENTS, group="readers", max_records=10, max_wait=timedelta(seconds=9)
        ) as subscription:
            (batch,) = await take(subscription, 10, acknowledge=False)
            server.refusals["Acknowledge"] = Refused(grpc.StatusCode.UNAVAILABLE, "try again")
            with pytest.raises(BrokerUnavailable, match="try again"):
                await subscription.acknowledge(batch)
            del server.refusals["Acknowledge"]
            await subscription.acknowledge(batch)
            with pytest.raises(LeaseLost):
                await subscription.acknowledge(batch)

    async def test_what_is_on_its_way_to_a_leaving_member_is_not_held_up_either(
        self, server: PubsubDouble
    ) -> None:
        patient = PubsubBroker(
            PubsubSettings(PROJECT, server.address), ack_deadline=timedelta(seconds=60), groups=GROUPS
        )
        await patient.create_topics()
        server.latency_s = 0.05
        subscription = server.subscriptions[
            Names(PROJECT).subscription(f"labkeeper.{MACHINE_EVENTS}", "readers")
        ]
        async with patient.subscribe(MACHINE_EVENTS, group="readers"):
            await patient.publish(events(range(20)))
            async with asyncio.timeout(PATIENCE_S):
                while not all(item.stream for lane in subscription.lanes.values() for item in lane):
                    await asyncio.sleep(0.005)
        async with patient.subscribe(MACHINE_EVENTS, group="readers") as staying:
            assert values(messages_of(await take(staying, 20))) == list(range(20))
        await patient.close()


class TestFlowControl:
    """However much is waiting: one batch in the reader's hands, and one that waits for it."""

    async def test_a_reader_that_acknowledges_nothing_gets_two_batches(
        self, broker: PubsubBroker, server: PubsubDouble
    ) -> None:
        await broker.publish(events(range(300)))
        async with broker.subscribe(MACHINE_EVENTS, group="readers", max_records=20) as subscription:
            (first,) = await take(subscription, 1, acknowledge=False)
            await until(lambda: leased(server, "readers") == 40)
            assert await most_leased(server, "readers", for_s=PAUSE_S) == 40
            (second,) = await take(subscription, 20, acknowledge=False)
            asking = asyncio.ensure_future(anext(aiter(subscription)))
            await subscription.acknowledge(first)
            third = await asyncio.wait_for(asking, PATIENCE_S)
            assert leased(server, "readers") <= 40
        assert [len(batch.messages) for batch in (first, second)] == [20, 20]
        assert not {m.value for m in third.messages} & {m.value for m in (*first.messages, *second.messages)}

    async def test_a_private_reader_that_does_not_ask_is_sent_one_more(
        self, broker: PubsubBroker, server: PubsubDouble
    ) -> None:
        await broker.publish(events(range(300)))
        async with broker.subscribe(MACHINE_EVENTS, group=None, max_records=20) as subscription:
            (first,) = await take(subscription, 1)
            await until(lambda: leased(server, "only-") == 20)
            assert await most_leased(server, "only-", for_s=PAUSE_S) == 20
            rest = messages_of(await take(subscription, 280))
        assert values([*first.messages, *rest]) == list(range(300))

    async def test_what_waits_for_a_private_reader_waits_longer_than_the_ack_deadline(
        self, broker: PubsubBroker, server: PubsubDouble
    ) -> None:
        await broker.publish(events(range(60)))
        async with broker.subscribe(MACHINE_EVENTS, group=None, max_records=20) as subscription:
            first = messages_of(await take(subscription, 1))
            await until(lambda: server.calls["ModifyAckDeadline"] >= 6)
            rest = messages_of(await take(subscription, 60 - len(first)))
        assert values([*first, *rest]) == list(range(60))

    async def test_a_private_reader_goes_on_when_nothing_could_be_acknowledged_for_a_while(
        self, broker: PubsubBroker, server: PubsubDouble
    ) -> None:
        await broker.publish(events(range(60)))
        server.refusals["Acknowledge"] = Refused(grpc.StatusCode.UNAVAILABLE, "try again")
        async with broker.subscribe(MACHINE_EVENTS, group=None, max_records=20) as subscription:
            read = messages_of(await take(subscription, 20))
            await until(lambda: server.calls["Acknowledge"] >= 2)
            del server.refusals["Acknowledge"]
            while set(values(read)) != set(range(60)):
                read += messages_of(await take(subscription, 1))


class TestLoss:
    async def test_a_reader_rides_out_the_loss_of_the_server(
        self, broker: PubsubBroker, server: PubsubDouble
    ) -> None:
        await broker.publish(events(range(20)))
        async with broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
            first = messages_of(await take(subscription, 20))
            await server.stop()
            with pytest.raises(BrokerUnavailable):
                await broker.publish([event("machine-1", 20)])
            with pytest.raises(BrokerUnavailable):
                await broker.check()
            await server.start()
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    try:
                        await broker.publish(events(range(20, 40)))
                        break
                    except BrokerUnavailable:
                        await asyncio.sleep(0.05)
            second = messages_of(await take(subscription, 20))
        assert values(first) == list(range(20))
        assert set(values(second)) == set(range(20, 40))

    async def test_a_private_reader_is_gone_with_its_subscription_also_when_the_server_was_away(
        self, broker: PubsubBroker, server: PubsubDouble
    ) -> None:
        async with broker.subscribe(MACHINE_CHANGES, group=None):
            (private,) = (name for name in server.subscriptions if ".only-" in name)
            assert server.subscriptions[private].settings.expiration_policy.ttl.seconds == 24 * 3600
        assert private not in server.subscriptions

    async def test_a_group_that_could_not_be_wound_back_is_not_left_behind(
        self, broker: PubsubBroker, server: PubsubDouble
    ) -> None:
        await broker.publish(events(range(10)))
        server.refusals["Seek"] = Refused(grpc.StatusCode.UNAVAILABLE, "later")
        with pytest.raises(BrokerUnavailable):
            async with broker.subscribe(MACHINE_EVENTS, group="new"):
                pass
        del server.refusals["Seek"]
        async with broker.subscribe(MACHINE_EVENTS, group="new") as subscription:
            assert values(messages_of(await take(subscription, 10))) == list(range(10))

    async def test_a_deleted_group_is_read_on_as_soon_as_it_is_there_again(
        self, broker: PubsubBroker, server: PubsubDouble
    ) -> None:
        async with broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
            service = broker._service
            name = Names(PROJECT).subscription(f"labkeeper.{MACHINE_EVENTS}", "readers")
            await service.call(pubsub_service.DELETE_SUBSCRIPTION, subscription=name)
            await broker.create_topics()
            await broker.publish([event("machine-1", 1)])
            assert values(messages_of(await take(subscription, 1))) == [1]

    async def test_a_private_reader_whose_subscription_is_gone_says_so(
        self, broker: PubsubBroker, server: PubsubDouble
    ) -> None:
        async with broker.subscribe(MACHINE_CHANGES, group=None) as subscription:
            assert isinstance(subscription, PubsubSubscription)
            name = subscription._options.subscription
            await broker._service.call(pubsub_service.DELETE_SUBSCRIPTION, subscription=name)
            with pytest.raises(Misconfigured, match="is gone"):
                await take(subscription, 1)


class TestLag:
    async def test_it_never_says_that_more_was_read_than_was_acknowledged(
        self, broker: PubsubBroker, server: PubsubDouble
    ) -> None:
        """While members come, go, and acknowledge what they like; measured against what the server knows."""
        chance = random.Random(7)
        first = 0
        for _ in range(12):
            await broker.publish(events(range(first, first + 30)))
            first += 30
            async with broker.subscribe(MACHINE_EVENTS, group="readers", max_records=7) as subscription:
                batches = await take(subscription, chance.randrange(1, 15), acknowledge=False)
                for batch in batches[: chance.randrange(len(batches) + 1)]:
                    await subscription.acknowledge(batch)
                lags = await broker.lag(MACHINE_EVENTS, group="readers")
                truth = server.subscriptions[
                    Names(PROJECT).subscription(f"labkeeper.{MACHINE_EVENTS}", "readers")
                ]
                for lag in lags:
                    unread = [
                        item
                        for item in truth.lanes[str(lag.partition)]
                        if not item.is_acked and "labkeeper_fence" not in item.entry.message.attributes
                    ]
                    assert lag.unread == len(unread)
                    if unread:
                        assert lag.oldest_unread_at is not None
                        assert lag.oldest_unread_at.timestamp() == pytest.approx(unread[0].entry.published)

    async def test_it_leaves_nothing_behind(self, broker: PubsubBroker, server: PubsubDouble) -> None:
        before = set(server.subscriptions)
        await broker.publish(events(range(10)))
        await broker.lag(MACHINE_EVENTS, group="readers")
        await broker.fetch(MACHINE_EVENTS)
        assert set(server.subscriptions) == before
        assert not server.snapshots

    async def test_a_large_backlog_is_told_as_at_least_so_many(self, broker: PubsubBroker) -> None:
        await broker.publish(events(range(3000)))
        lags = await broker.lag(MACHINE_EVENTS, group="readers")
        assert 500 <= sum(lag.unread for lag in lags) < 3000
        assert all(lag.oldest_unread_at is not None for lag in lags)

    async def test_a_server_without_snapshots_is_not_asked_to_guess(
        self, broker: PubsubBroker, server: PubsubDouble
    ) -> None:
        server.refusals["CreateSnapshot"] = Refused(grpc.StatusCode.UNIMPLEMENTED, "unknown method")
        with pytest.raises(BrokerUnavailable, match="nobody knows how far"):
            await broker.lag(MACHINE_EVENTS, group="readers")
        with pytest.raises(BrokerUnavailable, match="nothing can be looked up"):
            await broker.fetch(MACHINE_EVENTS)
        async with broker.subscribe(MACHINE_EVENTS, group="new") as subscription:
            await broker.publish([event("machine-1", 1)])
            assert values(messages_of(await take(subscription, 1))) == [1]


class TestDeadLetters:
    async def test_what_kills_its_readers_is_put_among_the_dead_letters_by_pubsub(
        self, server: PubsubDouble, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pubsub_topics, "_MOST_DELIVERIES", 3)
        broker = PubsubBroker(PubsubSettings(PROJECT, server.address), ack_deadline=DEADLINE, groups=GROUPS)
        await broker.create_topics()
        await broker.publish([event("machine-3", 1)])
        for _ in range(3):
            async with broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
                await take(subscription, 1, acknowledge=False)
        async with broker.subscribe(MACHINE_EVENTS, group="readers"), asyncio.timeout(PATIENCE_S):
            while not (letters := await broker.fetch(dead_letters_of(MACHINE_EVENTS))):
                await asyncio.sleep(0.02)
        (letter,) = letters
        assert (letter.key, letter.value) == ("machine-3", b"1")
        assert "gave up after 3 deliveries" in letter.headers[envelope.DEAD_REASON]
        assert letter.headers[envelope.DEAD_TOPIC] == MACHINE_EVENTS
        (again,) = await broker.fetch(dead_letters_of(MACHINE_EVENTS))
        assert (again.partition, again.offset) == (letter.partition, letter.offset)
        await broker.close()

    async def test_parking_never_fails_for_the_size_of_message_or_reason(
        self, broker: PubsubBroker, server: PubsubDouble
    ) -> None:
        """Another program may have published as much as Pub/Sub takes, with as many attributes."""
        foreign = PubsubMessage(
            data=bytes(9_885_000), attributes={f"attribute-{number}": "x" * 1000 for number in range(100)}
        )
        service = Service(PubsubSettings(PROJECT, server.address))
        await service.call(
            pubsub_service.PUBLISH, topic=broker._topics.path(MACHINE_EVENTS), messages=[foreign]
        )
        await service.close()
        async with broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
            ((message,),) = [batch.messages for batch in await take(subscription, 1)]
        await DeadLetters(broker, SystemClock()).put([(message, "ä" * 5000)])
        (letter,) = await broker.fetch(dead_letters_of(MACHINE_EVENTS))
        assert letter.headers[envelope.DEAD_REASON] == "ä" * 2000
        assert letter.headers["attribute-99"] == "x" * 1000
        assert letter.headers["dead_cut"] == "9885000"
        assert 9_700_000 < len(letter.value) < 9_885_000

    async def test_all_letters_are_found_page_by_page_under_the_same_names(
        self, broker: PubsubBroker
    ) -> None:
        topic = dead_letters_of(MACHINE_EVENTS)
        await broker.publish([Outgoing(topic, f"machine-{number}", b"%d" % number) for number in range(95)])
        walks = []
        for size in (10, 30, 100):
            names: list[tuple[int, int]] = []
            after: dict[int, int] = {}
            while page := await broker.fetch(topic, after=after, limit=size):
                names += [(message.partition, message.offset) for message in page]
                after.update((message.partition, message.offset) for message in page)
            walks.append(names)
        assert walks[0] == walks[1] == walks[2]
        assert len(set(walks[0])) == 95
        at = walks[0][40]
        found = await broker.fetch(topic, after={at[0]: at[1] - 1}, limit=1)
        assert [(message.partition, message.offset) for message in found] == [at]


class TestTopics:
    async def test_clients_count_partitions_as_they_were_when_the_topic_was_made(
        self, server: PubsubDouble
    ) -> None:
        settings = PubsubSettings(PROJECT, server.address)
        maker, user = PubsubBroker(settings, ack_deadline=DEADLINE), PubsubBroker(settings)
        reports = await maker.create_topics(partitions={MACHINE_EVENTS: 3})
        assert [r.partitions for r in reports if r.name.endswith(MACHINE_EVENTS)] == [3]
        await user.publish(events(range(30)))
        assert {message.partition for message in await user.fetch(MACHINE_EVENTS)} == {0, 1, 2}
        assert len(await user.lag(MACHINE_EVENTS, group="description-writer")) == 3
        await maker.close()
        await user.close()

    async def test_settings_are_brought_into_line(self, server: PubsubDouble) -> None:
        settings = PubsubSettings(PROJECT, server.address)
        before = PubsubBroker(settings, Catalogue([Topic(MACHINE_EVENTS, 8, timedelta(days=1))]))
        (report,) = await before.create_topics()
        assert report.state is TopicState.CREATED
        after = PubsubBroker(
            settings, Catalogue([Topic(MACHINE_EVENTS, 8, timedelta(days=2))]), ack_deadline=DEADLINE
        )
        (report,) = await after.create_topics()
        assert report.state is TopicState.CHANGED
        topic, subscription = server.topics.popitem()[1], server.subscriptions.popitem()[1]
        assert topic.settings.message_retention_duration.seconds == 2 * 24 * 3600
        assert subscription.settings.message_retention_duration.seconds == 2 * 24 * 3600
        assert subscription.settings.ack_deadline_seconds == 2
        assert subscription.settings.HasField("expiration_policy")
        assert not subscription.settings.expiration_policy.HasField("ttl")
        await before.close()
        await after.close()

    async def test_a_subscription_without_order_is_warned_of(
        self, server: PubsubDouble, broker: PubsubBroker
    ) -> None:
        server.subscriptions[
            Names(PROJECT).subscription(f"labkeeper.{MACHINE_EVENTS}", "readers")
        ].settings.enable_message_ordering = False
        (warned,) = [report for report in await broker.create_topics() if report.warnings]
        assert "does not keep the order" in warned.warnings[0]

    async def test_missing_topics_are_named_with_what_to_do(self, server: PubsubDouble) -> None:
        broker = PubsubBroker(PubsubSettings(PROJECT, server.address))
        for attempt in (
            broker.publish([event("machine-1")]),
            broker.fetch(MACHINE_EVENTS),
            broker.lag(MACHINE_EVENTS, group="readers"),
        ):
            with pytest.raises(
                BrokerUnavailable,
                match=r"no topic labkeeper\.machine\.events in labkeeper-test .*`labkeeper topics create`",
            ):
                await attempt
        with pytest.raises(BrokerUnavailable, match="topics create"):
            await broker.check()
        await broker.close()

    async def test_a_missing_right_is_named_with_the_role_that_gives_it(
        self, server: PubsubDouble, broker: PubsubBroker
    ) -> None:
        server.refusals["Publish"] = Refused(grpc.StatusCode.PERMISSION_DENIED, "not allowed")
        with pytest.raises(Misconfigured, match=r"Publish on topic .* grant roles/pubsub\.publisher"):
            await broker.publish([event("machine-1")])


async def test_one_process_does_not_move_a_group_that_it_reads(broker: PubsubBroker) -> None:
    async with broker.subscribe(MACHINE_EVENTS, group="readers"):
        with pytest.raises(Rejected, match="1 live members"):
            await broker.seek(MACHINE_EVENTS, group="readers", to=From.EARLIEST)


async def test_ten_megabytes_are_the_most(broker: PubsubBroker) -> None:
    await broker.publish([Outgoing(MACHINE_EVENTS, "machine-1", bytes(9_900_000))])
    with pytest.raises(Rejected, match="too large: Pub/Sub takes"):
        await broker.publish([event("machine-1"), Outgoing(MACHINE_EVENTS, "machine-1", bytes(10_000_000))])
    assert [len(message.value) for message in await broker.fetch(MACHINE_EVENTS)] == [9_900_000]


async def test_a_message_of_another_program_is_taken(broker: PubsubBroker, server: PubsubDouble) -> None:
    service = Service(PubsubSettings(PROJECT, server.address))
    foreign = [
        PubsubMessage(data=b"1", ordering_key="machine-7"),
        PubsubMessage(data=b"2", attributes={"ce_id": "x"}),
        PubsubMessage(data=b"3", attributes={"labkeeper_packed": "7777777"}),
    ]
    await service.call(pubsub_service.PUBLISH, topic=broker._topics.path(MACHINE_EVENTS), messages=foreign)
    await service.close()
    async with broker.subscribe(MACHINE_EVENTS, group="readers") as subscription:
        found = messages_of(await take(subscription, 3))
    by_value = {message.value: message for message in found}
    assert by_value[b"1"].key == "machine-7"
    assert by_value[b"2"].headers == {"ce_id": "x"}
    assert set(by_value) == {b"1", b"2", b"3"}
