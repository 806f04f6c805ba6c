"""Looking at what a topic keeps, up to now, without disturbing anybody: on a subscription that exists for the look alone.

Pub/Sub never says "that was all". So a *fence* is put behind everything, in every partition, before the subscription is
made; then the subscription is wound back (the topic remembers what was published before it, the fences included), and
when a partition's fence arrives, everything before it has arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from pipeline import logs
from pipeline.broker import pubsub_service
from pipeline.broker.protocol import Received
from pipeline.broker.pubsub_service import NotThere, Service, Unsupported
from pipeline.broker.pubsub_topics import Topics
from pipeline.broker.pubsub_wire import (
    FENCE,
    Message,
    Offsets,
    decode,
    fence,
    published_at,
    time_of,
    whole_millisecond,
)
from pipeline.errors import BrokerUnavailable
from schemas.ids import new_ulid

BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Before everything that a topic keeps."""
_PATIENCE_S: Final = 60.0
_ACK_DEADLINE_S: Final = 60
_AHEAD: Final = 1000
_MESSAGE_BYTES: Final = 16 * 1024
"""So large a message is taken to be when the server is told how much it may send ahead."""


@dataclass(frozen=True, slots=True)
class Seek:
    """Where a replay begins."""

    time: datetime | None = None
    snapshot: str = ""

    @property
    def target(self) -> dict[str, Any]:
        """As the service wants it."""
        return {"snapshot": self.snapshot} if self.snapshot else {"time": timestamp(self.time or BEGINNING)}


def timestamp(at: datetime) -> Timestamp:
    """A time as the service wants it."""
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


class Replay:
    """Reads from somewhere up to the time at which it began. Use `opened`."""

    def __init__(self, service: Service, lanes: int) -> None:
        self._service = service
        self._fence = new_ulid().lower()
        self._subscription = ""
        self._stream: Any = None
        self.open_lanes = set(range(lanes))
        """Partitions of which there may be more."""
        self.fences: dict[int, datetime] = {}
        """Partition to the time at which its fence was published: everything before has been read."""

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls, service: Service, topics: Topics, topic: str, seek: Seek, *, ahead: int = _AHEAD
    ) -> AsyncIterator[Replay]:
        """Begin to read, at most about `ahead` messages in advance; the subscription is deleted at the end."""
        replay = cls(service, topics.lanes(topic, await topics.partitions(topic)))
        fences = [fence(replay._fence, lane) for lane in sorted(replay.open_lanes)]
        await service.call(pubsub_service.PUBLISH, topic=topics.path(topic), messages=fences)
        replay._subscription = await topics.create_private(topic, f"look-{replay._fence}")
        try:
            await topics.wind(replay._subscription, **seek.target)
            async with service.stream(
                replay._subscription,
                stream_ack_deadline_seconds=_ACK_DEADLINE_S,
                client_id=replay._fence,
                max_outstanding_messages=ahead,
                max_outstanding_bytes=ahead * _MESSAGE_BYTES,
            ) as replay._stream:
                yield replay
        finally:
            await delete_subscription(service, replay._subscription)

    async def read(self) -> list[Message]:
        """The next messages; none any more when `open_lanes` is empty. Raises `BrokerUnavailable` if nothing comes."""
        while self.open_lanes:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    response = await self._stream.read()
            except TimeoutError as error:
                raise BrokerUnavailable("Pub/Sub: the end of the topic did not come in time") from error
            if response is pubsub_service.END:
                raise BrokerUnavailable("Pub/Sub: the stream of messages has ended")
            ack_ids = [each.ack_id for each in response.received_messages]
            if ack_ids:
                await self._service.call(
                    pubsub_service.ACKNOWLEDGE, subscription=self._subscription, ack_ids=ack_ids
                )
            found = [each.message for each in response.received_messages if not self._is_fence(each.message)]
            if found:
                return found
        return []

    def _is_fence(self, message: Message) -> bool:
        name = message.attributes.get(FENCE)
        if name == self._fence:
            lane = int(message.ordering_key)
            self.open_lanes.discard(lane)
            self.fences.setdefault(lane, published_at(message))
        return name is not None


async def delete_subscription(service: Service, subscription: str) -> None:
    """Delete a private subscription; if that fails, it expires by itself."""
    try:
        await service.call(pubsub_service.DELETE_SUBSCRIPTION, subscription=subscription)
    except NotThere:
        return
    except BrokerUnavailable as error:
        logs.get_logger().warning("broker_leave_failed", subscription=subscription, reason=str(error))


class Walk:
    """A walk through a topic, page by page, for `fetch`."""

    def __init__(self, service: Service, topics: Topics, topic: str) -> None:
        self._service = service
        self._topics = topics
        self._topic = topic
        self._partitions = 0
        self._offsets = Offsets()
        self._rest: list[Received] = []
        self._stack = AsyncExitStack()
        self._replay: Replay | None = None
        self.positions: dict[int, int] = {}
        """Partition to the offset last handed out."""

    async def begin(self, after: Mapping[int, int], since: datetime | None) -> None:
        """Start behind the given offsets. `since` is a time before which there is nothing new, if that is known."""
        self.positions = dict(after)
        self._partitions = await self._topics.partitions(self._topic)
        replay = Replay.opened(self._service, self._topics, self._topic, Seek(since or self._earliest()))
        try:
            self._replay = await self._stack.enter_async_context(replay)
        except Unsupported as error:
            raise BrokerUnavailable(
                f"{error}. Without that nothing can be looked up in a topic; Google's service has it"
            ) from error

    @property
    def is_at_end(self) -> bool:
        """Whether all there was has been handed out."""
        return self._replay is not None and not self._replay.open_lanes and not self._rest

    @property
    def read_up_to(self) -> datetime:
        """At the end: everything published before has been handed out."""
        return whole_millisecond(min(self._replay.fences.values())) if self._replay is not None else BEGINNING

    async def page(self, limit: int) -> Sequence[Received]:
        """Up to `limit` messages; fewer only at the end."""
        while self._replay is not None and len(self._rest) < limit and self._replay.open_lanes:
            for message in await self._replay.read():
                found = decode(self._topic, message, self._partitions, self._offsets)
                if found.offset > self.positions.get(found.partition, -1):
                    self._rest.append(found)
        page, self._rest = self._rest[:limit], self._rest[limit:]
        self.positions.update((message.partition, message.offset) for message in page)
        return page

    async def close(self) -> None:
        """Delete the subscription. Harmless when repeated."""
        await self._stack.aclose()

    def _earliest(self) -> datetime:
        lanes = range(self._topics.lanes(self._topic, self._partitions))
        return min((time_of(self.positions[lane]) if lane in self.positions else BEGINNING) for lane in lanes)
