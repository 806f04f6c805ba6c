"""The Pub/Sub broker: the lab's topics in a Google Cloud project.

How the protocol maps onto the service (the reasons are in docs/decisions/012-pubsub.md):

- A topic is a topic that remembers what was published for as long as the catalogue says. Its partitions are ordering
  keys, `0` to `n-1`; the machine id is an attribute. `n` stands on the topic as a label.
- A group is a subscription `<topic>.<group>` in order, that never expires, with a dead-letter policy for what kills its
  readers. Its members are streams on it; Pub/Sub gives each ordering key to one of them at a time.
- No group is a subscription that is deleted when its reader leaves, and expires a day after a reader that was killed.
- Where a new group begins, and `seek`, is Pub/Sub's seek to a time, which reaches back as far as the topic remembers.
- `fetch` and `lag` look through a subscription of their own, up to a fence that they put behind everything.
- What Pub/Sub does not tell anybody is who reads. So `seek` refuses only while members of this process read.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Final

from pipeline import logs
from pipeline.broker import pubsub_service
from pipeline.broker.catalogue import Catalogue, check_size
from pipeline.broker.protocol import From, Lag, Outgoing, Received, Subscription, TopicReport
from pipeline.broker.pubsub_lag import LagMeter
from pipeline.broker.pubsub_publisher import Publisher
from pipeline.broker.pubsub_replay import BEGINNING, Walk, delete_subscription, timestamp
from pipeline.broker.pubsub_service import Service, Unsupported
from pipeline.broker.pubsub_subscription import Options, PubsubSubscription
from pipeline.broker.pubsub_topics import GROUPS, Topics
from pipeline.broker.pubsub_wire import Names, encode
from pipeline.clock import Clock, SystemClock
from pipeline.errors import Misconfigured, Rejected
from pipeline.settings import PubsubSettings
from schemas.ids import new_ulid

_ACK_DEADLINE: Final = timedelta(seconds=30)


class PubsubBroker:
    """See `protocol.Broker`. Connects when first used."""

    def __init__(
        self,
        settings: PubsubSettings,
        catalogue: Catalogue | None = None,
        *,
        clock: Clock | None = None,
        ack_deadline: timedelta = _ACK_DEADLINE,
        groups: Mapping[str, Sequence[str]] = GROUPS,
    ) -> None:
        """`ack_deadline`: how soon others take over from a member that was killed; 10 s to 10 min.

        `groups` maps topics to the groups whose subscriptions `create_topics` makes.
        """
        if not settings.project:
            raise Misconfigured("Pub/Sub needs a project: give its id with --pubsub-project")
        self._catalogue = catalogue or Catalogue()
        self._clock = clock or SystemClock()
        self._ack_deadline = ack_deadline
        self._service = Service(settings)
        self._names = Names(settings.project)
        self._topics = Topics(self._service, self._names, self._catalogue, ack_deadline, groups)
        self._publisher = Publisher(self._service)
        self._meter = LagMeter(self._service, self._topics, self._names, self._clock)
        self._walks: dict[str, Walk] = {}
        self._ends: dict[str, tuple[Mapping[int, int], datetime]] = {}
        """Topic to where the last walk through it ended, and up to which time there is nothing more."""
        self._subscriptions: dict[PubsubSubscription, str] = {}

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """See the protocol."""
        by_topic: dict[str, list[Outgoing]] = {}
        for message in messages:
            self._catalogue.topic(message.topic)
            check_size(len(message.value))
            by_topic.setdefault(message.topic, []).append(message)
        ready = [
            (self._topics.path(topic), [encode(message, partitions) for message in own])
            for topic, own in by_topic.items()
            for partitions in [await self._topics.partitions(topic)]
        ]
        for path, encoded in ready:
            await self._publisher.publish(path, encoded)

    def subscribe(
        self,
        topic: str,
        *,
        group: str | None,
        start: From | datetime = From.EARLIEST,
        max_records: int = 500,
        max_wait: timedelta = timedelta(milliseconds=5),
    ) -> AbstractAsyncContextManager[Subscription]:
        """See the protocol. Entering raises `BrokerUnavailable` if Pub/Sub cannot be reached."""
        return self._subscription(topic, group, start, max_records, max_wait)

    async def seek(self, topic: str, *, group: str, to: From | datetime) -> None:
        """See the protocol; members in other processes are not seen, and read on from there."""
        subscription = self._names.subscription(self._catalogue.full_name(topic), group)
        members = sum(name == subscription for name in self._subscriptions.values())
        if members:
            raise Rejected(f"group {group!r} has {members} live members on {topic}: stop them first")
        await self._topics.ensure_subscription(topic, group)
        await self._wind(subscription, self._clock.now() if to is From.LATEST else to)

    async def lag(self, topic: str, *, group: str) -> Sequence[Lag]:
        """See the protocol. Of more than some thousand unread messages, it says "at least"."""
        return await self._meter.measure(topic, self._catalogue.full_name(topic), group)

    async def fetch(
        self, topic: str, *, after: Mapping[int, int] | None = None, limit: int = 100
    ) -> Sequence[Received]:
        """See the protocol. Page by page it costs one subscription, not one a page."""
        self._catalogue.topic(topic)
        wanted = dict(after or {})
        walk = self._walks.pop(topic, None)
        if walk is None or walk.positions != wanted:
            if walk is not None:
                await walk.close()
            positions, end = self._ends.get(topic, ({}, None))
            walk = Walk(self._service, self._topics, topic)
            await walk.begin(wanted, end if positions == wanted else None)
        is_resumable = False
        try:
            page = await walk.page(limit)
            is_resumable = not walk.is_at_end
        finally:
            if not is_resumable:
                await walk.close()
        if is_resumable:
            self._walks[topic] = walk
        else:
            self._ends[topic] = dict(walk.positions), walk.read_up_to
        return page

    async def create_topics(self, *, partitions: Mapping[str, int] | None = None) -> Sequence[TopicReport]:
        """See the protocol. Makes the subscriptions of the groups that are known, too."""
        return await self._topics.create(partitions or {})

    async def check(self) -> None:
        """See the protocol."""
        first = next(iter(self._catalogue))
        await self._service.call(pubsub_service.GET_TOPIC, topic=self._topics.path(first.name))

    async def close(self) -> None:
        """See the protocol."""
        for subscription in tuple(self._subscriptions):
            await subscription.close()
        await self._publisher.close()
        for walk in self._walks.values():
            await walk.close()
        self._walks.clear()
        await self._service.close()

    @contextlib.asynccontextmanager
    async def _subscription(
        self, topic: str, group: str | None, start: From | datetime, max_records: int, max_wait: timedelta
    ) -> AsyncIterator[Subscription]:
        name = await self._joined(topic, group, start)
        options = Options(
            topic,
            await self._topics.partitions(topic),
            max_records,
            max_wait,
            name,
            is_private=group is None,
            ack_deadline=self._ack_deadline,
        )
        subscription = PubsubSubscription(self._service, options)
        self._subscriptions[subscription] = name
        try:
            subscription.start()
            yield subscription
        finally:
            del self._subscriptions[subscription]
            await subscription.close()

    async def _joined(self, topic: str, group: str | None, start: From | datetime) -> str:
        """Full name of the subscription to read."""
        full_name = self._catalogue.full_name(topic)
        if group is None:
            name = await self._topics.create_private(topic, f"only-{new_ulid().lower()}")
        else:
            name = self._names.subscription(full_name, group)
            if not await self._topics.ensure_subscription(topic, group):
                return name
        is_placed = start is From.LATEST
        try:
            if not is_placed:
                await self._wind_back(name, topic, start)
            is_placed = True
        finally:
            if not is_placed:  # or its next reader would take it for one that has been read
                await delete_subscription(self._service, name)
        return name

    async def _wind_back(self, subscription: str, topic: str, start: From | datetime) -> None:
        try:
            await self._wind(subscription, start)
        except Unsupported as error:
            logs.get_logger().warning(
                "broker_cannot_look_back",
                topic=topic,
                reason=str(error),
                note="begins with what is published from now on",
            )

    async def _wind(self, subscription: str, to: From | datetime) -> None:
        at = to if isinstance(to, datetime) else BEGINNING
        await self._topics.wind(subscription, time=timestamp(at))
