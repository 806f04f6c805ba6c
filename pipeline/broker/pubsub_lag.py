"""How far a group is behind, found out by looking: Pub/Sub itself tells only Cloud Monitoring, minutes later.

A snapshot freezes what the group has acknowledged. A look that begins at the snapshot sees what is unread, and then the
fence that was put behind it. So what is said of a partition whose fence has come is exact; nothing is ever guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipeline import logs
from pipeline.broker import pubsub_service
from pipeline.broker.protocol import Lag
from pipeline.broker.pubsub_replay import Replay, Seek
from pipeline.broker.pubsub_service import NotThere, Service, Unsupported
from pipeline.broker.pubsub_topics import Topics
from pipeline.broker.pubsub_wire import Names, Offsets, decode
from pipeline.clock import Clock
from pipeline.errors import BrokerUnavailable, Rejected
from schemas.ids import new_ulid

_MOST_COUNTED: Final = 500
"""So many are counted; beyond that, "at least so many" is enough to know, for whoever is behind must not be held up."""
_AHEAD: Final = 200


@dataclass(slots=True)
class _Count:
    unread: int = 0
    oldest: datetime | None = None


class LagMeter:
    """Measures groups."""

    def __init__(self, service: Service, topics: Topics, names: Names, clock: Clock) -> None:
        self._service = service
        self._topics = topics
        self._names = names
        self._clock = clock

    async def measure(self, topic: str, full_name: str, group: str) -> list[Lag]:
        """One entry a partition. Raises `BrokerUnavailable` when it cannot be known, rather than to guess."""
        snapshot = self._names.snapshot(full_name, f"lag-{new_ulid().lower()}")
        subscription = self._names.subscription(full_name, group)
        try:
            await self._service.call(pubsub_service.CREATE_SNAPSHOT, name=snapshot, subscription=subscription)
        except NotThere:
            return await self._count(topic, Seek())
        except Unsupported as error:
            raise BrokerUnavailable(
                f"{error}. Without that nobody knows how far a group has read; Google's service has it"
            ) from error
        except Rejected as error:  # such as: what is unread is as old as the subscription keeps it
            raise BrokerUnavailable(str(error)) from error
        try:
            return await self._count(topic, Seek(snapshot=snapshot))
        finally:
            await self._delete(snapshot)

    async def _count(self, topic: str, seek: Seek) -> list[Lag]:
        partitions = await self._topics.partitions(topic)
        counts = [_Count() for _ in range(partitions)]
        total = 0
        offsets = Offsets()
        async with Replay.opened(self._service, self._topics, topic, seek, ahead=_AHEAD) as replay:
            while replay.open_lanes and (total < _MOST_COUNTED or _is_unsure(counts, replay)):
                for message in await replay.read():
                    found = decode(topic, message, partitions, offsets)
                    total += 1
                    if found.partition < partitions:
                        count = counts[found.partition]
                        count.unread += 1
                        count.oldest = count.oldest or found.published_at
            now = self._clock.now()
            return [
                Lag(number, count.unread, count.oldest, replay.fences.get(number, now))
                for number, count in enumerate(counts)
            ]

    async def _delete(self, snapshot: str) -> None:
        try:
            await self._service.call(pubsub_service.DELETE_SNAPSHOT, snapshot=snapshot)
        except NotThere:
            return
        except BrokerUnavailable as error:
            logs.get_logger().warning("broker_snapshot_left", snapshot=snapshot, reason=str(error))


def _is_unsure(counts: list[_Count], replay: Replay) -> bool:
    """Whether there is a partition of which neither an unread message nor the end has been seen."""
    return any(count.oldest is None and number in replay.open_lanes for number, count in enumerate(counts))
