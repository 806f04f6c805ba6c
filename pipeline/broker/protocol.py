"""What every broker promises. Three implementations (and one in memory for tests) pass `tests/contract/test_broker.py`.

Words: a *topic* is cut into *partitions*; all messages with one key land in one partition, in the order in which they
were published. A *group* reads a topic together: every partition is read by one of its members at a time, and the group
remembers how far it has read. Delivery is at least once. Topic names here are without prefix; the adapter adds it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish."""

    topic: str
    key: str
    """The machine id. Decides the partition, and so the order."""
    value: bytes
    """Bare JSON. Empty on a compacted topic: the key is deleted."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """See `schemas.envelope`."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message that was read."""

    topic: str
    partition: int
    offset: int
    """Counts up within the partition. Gaps are allowed, repetition is not."""
    key: str
    value: bytes
    headers: Mapping[str, str]
    published_at: datetime
    """The broker's clock when it took the message; aware, in UTC."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages read together, of one or several partitions; never empty. Within a partition they are in order."""

    messages: Sequence[Received]


class From(Enum):
    """Where a group that has never read a topic begins."""

    EARLIEST = "earliest"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind in one partition."""

    partition: int
    unread: int
    """Messages published but not acknowledged."""
    oldest_unread_at: datetime | None
    """`published_at` of the first of them; None when there is none."""
    measured_at: datetime
    """The broker's clock when this was measured: with nothing unread, everything up to here has been read."""


class TopicState(Enum):
    """What `create_topics` found or did."""

    CREATED = "created"
    CHANGED = "changed"
    """Settings were brought into line."""
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class TopicReport:
    """One topic, after `create_topics`."""

    name: str
    """As the broker knows it: with prefix."""
    partitions: int
    state: TopicState
    warnings: Sequence[str] = ()
    """What is not as it should be and cannot be changed, such as a partition count."""


class Subscription(Protocol):
    """A member of a group, reading."""

    def __aiter__(self) -> AsyncIterator[Batch]:
        """Batches as they come, for ever.

        At most two batches are held in memory: a reader that does not ask for more stops the reading. A member of a group
        that has `max_records` twice and acknowledges none of it may get no more until it does. Faults of the broker are
        ridden out inside (back off, reconnect); the iterator ends only when the subscription is closed.
        """
        ...

    async def acknowledge(self, batch: Batch) -> None:
        """Record that the batch has been dealt with. Until then, a crash makes the group read it again.

        Batches are acknowledged in the order in which they were read. Raises `LeaseLost` when another member has taken
        over one of the partitions meanwhile (it reads the batch again), `BrokerUnavailable` when it cannot be recorded.
        """
        ...


class Broker(Protocol):
    """Publishes and subscribes. Safe for use by many tasks of one event loop."""

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish all messages; return once the broker has them safe.

        Keeps the order of messages of one key. Raises `BrokerUnavailable` when it is not known to have succeeded (some
        or all may have been published nevertheless), `Rejected` when a message can never be taken, such as too large.
        Waits while too much is under way.
        """
        ...

    def subscribe(
        self,
        topic: str,
        *,
        group: str | None,
        start: From | datetime = From.EARLIEST,
        max_records: int = 500,
        max_wait: timedelta = timedelta(milliseconds=5),
    ) -> AbstractAsyncContextManager[Subscription]:
        """Join `group` as a member, or, with None, read everything alone and leave no trace.

        `start` counts only where the group has no position yet. A time means: the first message published at or after it.
        A batch holds what is there, at most `max_records`; when a message arrives, up to `max_wait` is given for more.
        Leaving the context gives the partitions up at once, so that others need not wait for the lease to run out.
        """
        ...

    async def seek(self, topic: str, *, group: str, to: From | datetime) -> None:
        """Move a group that has no live members; raises `Rejected` when it has some."""
        ...

    async def lag(self, topic: str, *, group: str) -> Sequence[Lag]:
        """One entry for every partition of the topic."""
        ...

    async def fetch(
        self, topic: str, *, after: Mapping[int, int] | None = None, limit: int = 100
    ) -> Sequence[Received]:
        """Look at up to `limit` messages without joining any group, from the earliest kept.

        `after` maps a partition to the offset to continue behind. Order holds within each partition.
        """
        ...

    async def create_topics(self, *, partitions: Mapping[str, int] | None = None) -> Sequence[TopicReport]:
        """Create what is missing and bring the settings of what exists into line; nothing is ever deleted. Safe twice.

        `partitions` maps topics to other numbers than the usual; they count for new topics, and of others that have not
        so many the report warns. Raises `Rejected` when
        the broker refuses, such as for want of permission, and says what to do.
        """
        ...

    async def check(self) -> None:
        """Return if the broker answers; raise `BrokerUnavailable` if it does not. For readiness probes."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of all connections."""
        ...
