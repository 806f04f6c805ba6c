"""The brokers that pass `test_broker.py`, and what each needs for it. A new one adds a case, and its gaps by name."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
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
from pipeline.broker.pubsub_replay import delete_subscription
from pipeline.broker.pubsub_service import Service
from pipeline.broker.pubsub_subscription import PubsubSubscription
from pipeline.broker.pubsub_wire import Names
from pipeline.clock import ManualClock, SystemClock
from pipeline.settings import KafkaSettings, PubsubSettings
from schemas.ids import new_ulid
from schemas.topics import MACHINE_CHANGES, MACHINE_EVENTS
from tests.pubsub_double import PubsubDouble
from tests.servers.pubsub import is_fake

_LONG: Final = timedelta(seconds=30)
"""For which a member may be silent: on a busy machine one that is well would be taken for lost."""
_SHORT: Final = timedelta(seconds=1)
_SHORT_ON_KAFKA: Final = timedelta(seconds=3)
_SHORT_ON_PUBSUB: Final = timedelta(seconds=3)
"""No less: renewals share the loop with everything else here."""
_STALLS: Final = "test_a_member_that_was_away_too_long_cannot_acknowledge"
"""The test in which a member is silent for too long, and which waits until it has been."""
_SHORTEST_DEADLINE: Final = timedelta(seconds=10)
"""That Google takes."""
_GROUPS: Final = {
    MACHINE_EVENTS: ("readers", "one", "two"),
    MACHINE_CHANGES: ("readers",),
}
"""What the suite reads with; without those of tests that the fake fails anyway, for each costs it time."""
_GROUP_IS_NEW: Final = frozenset(
    {
        "test_a_new_group_may_begin_with_what_comes_next",
        "test_a_new_group_may_begin_at_a_time",
        "test_a_group_that_has_been_here_goes_on_where_it_was",
    }
)
"""Tests of where a group begins that nobody has made before."""


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
    lease = _SHORT if request.function.__name__ == _STALLS else _LONG
    broker, other = (EmbeddedBroker(url, clock=clock, lease=lease) for _ in range(2))

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
    session = _SHORT_ON_KAFKA if request.function.__name__ == _STALLS else _LONG
    broker, other = (KafkaBroker(settings, catalogue, session=session) for _ in range(2))
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
async def pubsub_case(request: pytest.FixtureRequest) -> AsyncIterator[BrokerCase]:
    """On a server that keeps the promises of Google's documentation."""
    clock = ManualClock(SystemClock().now())
    began = clock.now()

    def now() -> float:
        return (SystemClock().now() + (clock.now() - began)).timestamp()

    deadline = _SHORT_ON_PUBSUB if request.function.__name__ == _STALLS else _LONG
    async with PubsubDouble.running(now, shortest_deadline=1) as server:
        settings = PubsubSettings("lab", server.address)
        async with _on_pubsub(settings, Catalogue(), clock, deadline, {}) as case:
            yield case


@contextlib.asynccontextmanager
async def pubsub_fake_case(request: pytest.FixtureRequest) -> AsyncIterator[BrokerCase]:
    """On Google's own fake server or emulator, in topics of the test's own.

    Neither can wind a subscription back, so a group sees what was published before its first member came only if it was
    made together with the topics, as the services' groups are.
    """
    settings = PubsubSettings("labkeeper-test", request.getfixturevalue("pubsub_server").address)
    catalogue = Catalogue(prefix=f"lab-{new_ulid().lower()}")
    clock = PassingClock(SystemClock().now())
    groups = {} if request.function.__name__ in _GROUP_IS_NEW else _GROUPS
    async with _on_pubsub(settings, catalogue, clock, _SHORTEST_DEADLINE, groups) as case:
        yield case
    service = Service(settings)  # the fake lives on, and gets slower with all that it still has
    for topic, readers in groups.items():
        for group in readers:
            name = Names(settings.project).subscription(catalogue.full_name(topic), group)
            await delete_subscription(service, name)
    await service.close()


@contextlib.asynccontextmanager
async def _on_pubsub(
    settings: PubsubSettings,
    catalogue: Catalogue,
    clock: ManualClock,
    deadline: timedelta,
    groups: Mapping[str, Sequence[str]],
) -> AsyncIterator[BrokerCase]:
    async def trim() -> None:
        """The server does that by itself."""

    def stall(subscription: Subscription) -> None:
        work = cast("PubsubSubscription", subscription)._work
        assert work is not None
        work.cancel()  # neither reads nor renews its leases

    broker, other = (
        PubsubBroker(settings, catalogue, ack_deadline=deadline, groups=groups) for _ in range(2)
    )
    try:
        await broker.create_topics()
        yield BrokerCase(broker, other, clock, trim, stall)
    finally:
        await broker.close()
        await other.close()


CASES: Final[Mapping[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[BrokerCase]]]] = {
    "memory": memory_case,
    "embedded": embedded_case,
    "kafka": kafka_case,
    "pubsub": pubsub_case,
    "pubsub-fake": pubsub_fake_case,
}

MARKS: Final[Mapping[str, tuple[pytest.MarkDecorator, ...]]] = {
    "embedded": (pytest.mark.integration,),
    "kafka": (pytest.mark.integration,),
    "pubsub-fake": (pytest.mark.integration,),
}

_TOO_SMALL: Final = "Pub/Sub takes 10 MB at most, not 16 MiB"
_SECRET_READERS: Final = (
    "Pub/Sub tells nobody who reads a subscription: only members of the same process are seen"
)
_NO_SNAPSHOTS: Final = "Google's fake knows no snapshots, so nobody learns how far a group has read"
_NO_WAY_BACK: Final = "Google's fake cannot wind a subscription back to what was published before it was made"
_ONE_AT_A_TIME: Final = "Google's fake keeps a key's next message back until the last one is acknowledged"
_TOO_SLOW: Final = (
    f"{_ONE_AT_A_TIME}: not run, because so many messages take it from ten seconds to over thirty"
)
_NO_RETENTION: Final = (
    "Google's fake keeps no message for as long as its topic says, and drops none for its age"
)

KNOWN_GAPS: Final[Mapping[tuple[str, str], str]] = {
    ("pubsub", "test_a_message_that_is_too_large_is_refused"): _TOO_SMALL,
    ("pubsub", "test_a_group_with_members_cannot_be_moved"): _SECRET_READERS,
    ("pubsub-fake", "test_a_message_that_is_too_large_is_refused"): _TOO_SMALL,
    ("pubsub-fake", "test_a_group_with_members_cannot_be_moved"): _SECRET_READERS,
    ("pubsub-fake", "test_nothing_is_lost_while_many_publish_and_one_reads"): _NO_SNAPSHOTS,
    ("pubsub-fake", "test_members_of_a_group_share_its_messages"): _NO_SNAPSHOTS,
    ("pubsub-fake", "test_a_newcomer_takes_nothing_out_of_a_readers_hands"): _NO_SNAPSHOTS,
    ("pubsub-fake", "test_lag_says_how_much_is_unread_and_how_old_it_is"): _NO_SNAPSHOTS,
    ("pubsub-fake", "test_a_batch_holds_at_most_what_was_asked_for"): _NO_WAY_BACK,
    ("pubsub-fake", "test_a_new_group_may_begin_at_a_time"): _NO_WAY_BACK,
    ("pubsub-fake", "test_a_private_subscription_sees_everything_and_leaves_no_trace"): _NO_WAY_BACK,
    ("pubsub-fake", "test_a_group_can_be_moved_to_begin_elsewhere"): _NO_WAY_BACK,
    ("pubsub-fake", "test_messages_can_be_looked_at_without_a_group"): _NO_WAY_BACK,
    ("pubsub-fake", "test_an_unknown_topic_is_refused"): _NO_WAY_BACK,
    ("pubsub-fake", "test_publishing_nothing_does_nothing"): _NO_WAY_BACK,
    ("pubsub-fake", "test_a_cancelled_publisher_takes_nobodys_messages_along"): _NO_WAY_BACK,
    ("pubsub-fake", "test_what_was_not_acknowledged_is_read_again"): _ONE_AT_A_TIME,
    ("pubsub-fake", "test_what_was_acknowledged_is_not_read_again"): _ONE_AT_A_TIME,
    ("pubsub-fake", "test_part_of_a_batch_can_be_acknowledged"): _ONE_AT_A_TIME,
    ("pubsub-fake", "test_a_waiting_reader_gathers_for_a_moment"): _ONE_AT_A_TIME,
    ("pubsub-fake", "test_a_member_that_was_away_too_long_cannot_acknowledge"): _ONE_AT_A_TIME,
    ("pubsub-fake", "test_a_reader_that_does_not_read_stops_nobody"): _TOO_SLOW,
    ("pubsub-fake", "test_what_is_older_than_its_topic_keeps_it_goes"): _NO_RETENTION,
}
"""Broker and test to the reason why that broker cannot keep that promise. Strict: a gap that has closed must go."""


def known_gap(request: pytest.FixtureRequest, broker: str) -> pytest.MarkDecorator | None:
    """How the test is expected to fail, if it is.

    Only of the fake is it certain that it lacks all this, not of Google's emulator or another server in its place.
    """
    reason = KNOWN_GAPS.get((broker, request.function.__name__))
    if reason is None:
        return None
    is_certain = broker != "pubsub-fake" or is_fake(request.getfixturevalue("pubsub_server"))
    return pytest.mark.xfail(reason=reason, strict=is_certain, run=reason is not _TOO_SLOW)


LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
