"""What Labkeeper has in a Pub/Sub project: topics that remember, a subscription for each group, dead letters.

How many partitions a topic has is written on it as a label, for it is the clients that count them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from pipeline.broker import pubsub_service
from pipeline.broker.catalogue import Catalogue, partition_warnings
from pipeline.broker.protocol import TopicReport, TopicState
from pipeline.broker.pubsub_service import AlreadyThere, NotThere, Service
from pipeline.broker.pubsub_wire import Names
from schemas.topics import DEAD_SUFFIX, MACHINE_CHANGES, MACHINE_EVENTS, POWER_RESULTS, Topic, dead_letters_of

GROUPS: Final[Mapping[str, Sequence[str]]] = {
    MACHINE_EVENTS: ("description-writer",),
    MACHINE_CHANGES: ("fleet-stats",),
    POWER_RESULTS: ("description-writer",),
}
"""Groups whose subscriptions are made together with their topic, so that nothing is missed before they first read."""

_PARTITIONS: Final = "labkeeper-partitions"
_LONGEST_TOPIC_RETENTION: Final = timedelta(days=31)
_LONGEST_RETENTION: Final = timedelta(days=7)
_EXPIRES_AFTER: Final = timedelta(days=1)
_MOST_DELIVERIES: Final = 100


class Topics:
    """Knows and creates the topics and subscriptions of a lab."""

    def __init__(
        self,
        service: Service,
        names: Names,
        catalogue: Catalogue,
        ack_deadline: timedelta,
        groups: Mapping[str, Sequence[str]],
    ) -> None:
        self._service = service
        self._names = names
        self._catalogue = catalogue
        self._ack_deadline = ack_deadline
        self._groups = groups
        self._partitions: dict[str, int] = {}
        self._can_seek = False

    def path(self, topic: str) -> str:
        """The topic's full name."""
        return self._names.topic(self._catalogue.full_name(topic))

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has; raises `NotThere` when it has not been created."""
        if topic not in self._partitions:
            found = await self._service.call(pubsub_service.GET_TOPIC, topic=self.path(topic))
            self._partitions[topic] = self._written_on(found, topic)
        return self._partitions[topic]

    def lanes(self, topic: str, partitions: int) -> int:
        """How many ordering keys of ours a topic may hold: Pub/Sub forwards dead letters with those that they had."""
        if not topic.endswith(DEAD_SUFFIX):
            return partitions
        source = topic.removesuffix(DEAD_SUFFIX)
        return max(partitions, self._partitions.get(source) or self._catalogue.topic(source).partitions)

    async def create(self, wanted: Mapping[str, int]) -> list[TopicReport]:
        """Create what is missing and bring the rest into line; topics that others need come first."""
        for name in wanted:
            self._catalogue.topic(name)
        self._partitions.clear()
        dead_first = sorted(self._catalogue, key=lambda topic: not topic.name.endswith(DEAD_SUFFIX))
        reports = {topic.name: await self._create_topic(topic, wanted) for topic in dead_first}
        return [reports[topic.name] for topic in self._catalogue]

    async def ensure_subscription(self, topic: str, group: str) -> bool:
        """Create the group's subscription unless there is one; True when it is new."""
        wanted = self._subscription(self._catalogue.topic(topic), group)
        try:
            await self._service.call(pubsub_service.GET_SUBSCRIPTION, subscription=wanted["name"])
        except NotThere:
            return await self._create_subscription(wanted)
        return False

    async def create_private(self, topic: str, name: str) -> str:
        """Create a subscription for one reader, which goes away a day after the reader, and return its full name."""
        wanted = self._subscription(self._catalogue.topic(topic), name)
        del wanted["dead_letter_policy"]
        wanted["expiration_policy"] = {"ttl": _duration(_EXPIRES_AFTER)}
        await self._create_subscription(wanted)
        return str(wanted["name"])

    async def wind(self, subscription: str, **target: Any) -> None:
        """Seek: begin at a `time`, or where a `snapshot` was taken. Raises `Unsupported` where that cannot be done."""
        if self._service.is_emulator and not self._can_seek:
            await self._try_snapshot(subscription)
            self._can_seek = True
        await self._service.call(pubsub_service.SEEK, subscription=subscription, **target)

    async def _try_snapshot(self, subscription: str) -> None:
        """Google's fake server says that it can seek, and dies of it; but it says that it knows no snapshots."""
        name = self._names.snapshot(subscription.rpartition("/")[2], "try")
        with contextlib.suppress(AlreadyThere):
            await self._service.call(pubsub_service.CREATE_SNAPSHOT, name=name, subscription=subscription)
        with contextlib.suppress(NotThere):
            await self._service.call(pubsub_service.DELETE_SNAPSHOT, snapshot=name)

    async def _create_topic(self, topic: Topic, wanted: Mapping[str, int]) -> TopicReport:
        path = self.path(topic.name)
        partitions = wanted.get(topic.name, topic.partitions)
        retention = _duration(min(topic.retention, _LONGEST_TOPIC_RETENTION))
        state = TopicState.UNCHANGED
        warnings: list[str] = []
        try:
            found = await self._service.call(pubsub_service.GET_TOPIC, topic=path)
        except NotThere:
            found = None
        if found is None:
            labels = {_PARTITIONS: str(partitions)}
            try:
                found = await self._service.call(
                    pubsub_service.CREATE_TOPIC,
                    name=path,
                    labels=labels,
                    message_retention_duration=retention,
                )
                state = TopicState.CREATED
            except AlreadyThere:
                found = await self._service.call(pubsub_service.GET_TOPIC, topic=path)
        if found.message_retention_duration != retention:
            await self._service.call(
                pubsub_service.UPDATE_TOPIC,
                topic={"name": path, "message_retention_duration": retention},
                update_mask=FieldMask(paths=["message_retention_duration"]),
            )
            state = TopicState.CHANGED
        have = self._written_on(found, topic.name)
        self._partitions[topic.name] = have
        warnings += partition_warnings(have, wanted.get(topic.name, have))
        for group in self._groups.get(topic.name, ()):
            if await self._align(topic, group, warnings) and state is TopicState.UNCHANGED:
                state = TopicState.CHANGED
        return TopicReport(self._catalogue.full_name(topic.name), have, state, tuple(warnings))

    async def _align(self, topic: Topic, group: str, warnings: list[str]) -> bool:
        """Create the group's subscription or bring it into line; True when something was done."""
        wanted = self._subscription(topic, group)
        try:
            found = await self._service.call(pubsub_service.GET_SUBSCRIPTION, subscription=wanted["name"])
        except NotThere:
            return await self._create_subscription(wanted)
        if not found.enable_message_ordering:
            warnings.append(
                f"its subscription {wanted['name'].rpartition('/')[2]} does not keep the order, which cannot be changed:"
                " delete it while nobody reads, and create the topics again"
            )
        target = pubsub_service.PushedSubscription(**wanted)
        differing = [
            name
            for name in (
                "ack_deadline_seconds",
                "message_retention_duration",
                "expiration_policy",
                "dead_letter_policy",
            )
            if getattr(found, name) != getattr(target, name)
        ]
        if differing:
            await self._service.call(
                pubsub_service.UPDATE_SUBSCRIPTION,
                subscription=target,
                update_mask=FieldMask(paths=differing),
            )
        return bool(differing)

    async def _create_subscription(self, wanted: Mapping[str, Any]) -> bool:
        try:
            await self._service.call(pubsub_service.CREATE_SUBSCRIPTION, **wanted)
        except AlreadyThere:
            return False
        return True

    def _subscription(self, topic: Topic, group: str) -> dict[str, Any]:
        wanted: dict[str, Any] = {
            "name": self._names.subscription(self._catalogue.full_name(topic.name), group),
            "topic": self.path(topic.name),
            "ack_deadline_seconds": int(self._ack_deadline.total_seconds()),
            "enable_message_ordering": True,
            "message_retention_duration": _duration(min(topic.retention, _LONGEST_RETENTION)),
            "expiration_policy": {},
            "dead_letter_policy": None,
        }
        dead = dead_letters_of(topic.name)
        if any(other.name == dead for other in self._catalogue):
            wanted["dead_letter_policy"] = {
                "dead_letter_topic": self.path(dead),
                "max_delivery_attempts": _MOST_DELIVERIES,
            }
        return wanted

    def _written_on(self, found: Any, topic: str) -> int:
        text = found.labels.get(_PARTITIONS, "")
        return int(text) if text.isdecimal() else self._catalogue.topic(topic).partitions


def _duration(length: timedelta) -> Duration:
    return Duration(seconds=int(length.total_seconds()))
