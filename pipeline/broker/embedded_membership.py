"""What one subscription of the embedded broker may read: the partitions that its group's members share, or all of them.

A partition that belongs to another member by right is not taken away in mid-sentence: it is *drained*. Nothing more of it
is handed out, and it is released as soon as everything handed out has been acknowledged, or after one lease at the latest.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pipeline import logs
from pipeline.broker import embedded_groups
from pipeline.broker.embedded_groups import Holding, Member, Share
from pipeline.broker.embedded_session import Session
from pipeline.broker.protocol import Received
from pipeline.broker.waiting import is_set_within
from pipeline.errors import BrokerUnavailable, LeaseLost
from pipeline.retry import Backoff

_BEATS_PER_LEASE: Final = 4


@dataclass(slots=True, eq=False)
class Reading:
    """A partition that is being read. Regained after a loss it is another one, so that old messages stay old."""

    partition_id: int
    partition: int
    epoch: int
    start: int
    """The offset at which this reading began."""
    position: int
    """The first offset that has not been fetched."""
    handed_out: int
    """The first offset that the reader has not been given."""
    acknowledged: int
    held_until: float = math.inf
    """Monotonic time at which the lease runs out: after it, somebody else may be reading this."""
    drained_by: float | None = None
    """Monotonic time by which it is released, if it is being drained."""
    is_lost: bool = False

    @classmethod
    def begin(cls, partition_id: int, partition: int, *, epoch: int, at: int) -> Reading:
        """Read from offset `at` on."""
        return cls(partition_id, partition, epoch, start=at, position=at, handed_out=at, acknowledged=at)

    @property
    def is_open(self) -> bool:
        """Whether messages of it may be handed out."""
        return not self.is_lost and self.drained_by is None and not self.is_overdue

    @property
    def is_overdue(self) -> bool:
        """Whether the lease has run out, as far as we know."""
        return time.monotonic() > self.held_until

    @property
    def is_drained(self) -> bool:
        """Whether it can be released."""
        return self.drained_by is not None and (
            self.acknowledged >= self.handed_out or time.monotonic() > self.drained_by
        )


@dataclass(slots=True)
class Chunk:
    """Messages of one partition, fetched and not yet handed out."""

    reading: Reading
    messages: list[Received]


class Membership(Protocol):
    """Says what to read, and keeps the right to read it."""

    def readings(self) -> Collection[Reading]:
        """What to read now."""
        ...

    async def keep(self) -> None:
        """Keep the right to read, for ever."""
        ...

    async def acknowledge(self, ends: Mapping[int, int]) -> None:
        """Record partition by partition the first offset that has not been dealt with."""
        ...

    async def leave(self) -> None:
        """Give everything back."""
        ...

    def rearranged(self, group: str | None) -> None:
        """The members of that group, or perhaps of any, have changed."""
        ...


class Alone:
    """Reads every partition and leaves no trace."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings = readings

    def readings(self) -> Collection[Reading]:
        """All partitions."""
        return self._readings

    async def keep(self) -> None:
        """Nobody takes anything away."""

    async def acknowledge(self, ends: Mapping[int, int]) -> None:
        """Nobody wants to know."""

    async def leave(self) -> None:
        """Nobody notices."""

    def rearranged(self, group: str | None) -> None:
        """Does not concern us."""


class GroupMembership:
    """A member of a group, with its heartbeat."""

    def __init__(self, session: Session, member: Member, changed: asyncio.Event) -> None:
        self._session = session
        self._member = member
        self._changed = changed
        self._owned: dict[int, Reading] = {}
        self._beat_now = asyncio.Event()

    def readings(self) -> Collection[Reading]:
        """The partitions owned and not about to be released."""
        return [reading for reading in self._owned.values() if reading.is_open]

    async def keep(self) -> None:
        """Beat, often enough to keep the leases, and at once when there is a reason."""
        backoff = Backoff(cap_s=self._member.lease.total_seconds() / _BEATS_PER_LEASE)
        while True:
            try:
                await self.beat()
                backoff.reset()
                await is_set_within(self._beat_now, self._pause())
            except BrokerUnavailable as error:
                logs.get_logger().warning(
                    "broker_heartbeat_failed", group=self._member.group, reason=str(error)
                )
                await asyncio.sleep(backoff.next())

    async def beat(self) -> None:
        """Renew the leases and adapt to who else is there."""
        self._beat_now.clear()  # whatever happens from now on is a reason for another one
        releasing = [partition for partition, reading in self._owned.items() if reading.is_drained]
        held_until = time.monotonic() + self._member.lease.total_seconds()
        share = await self._session.transaction(
            lambda cursor: embedded_groups.beat(cursor, self._member, releasing=releasing)
        )
        self._apply(share, held_until)

    async def acknowledge(self, ends: Mapping[int, int]) -> None:
        """Record progress; raises `LeaseLost` for partitions that have passed on, or `BrokerUnavailable`."""
        done = {
            partition: (end, self._owned[partition].epoch)
            for partition, end in ends.items()
            if self._covers(partition, end)
        }
        lost = ends.keys() - done.keys()
        if done:
            lost |= await self._session.run(
                lambda cursor: embedded_groups.acknowledge(cursor, self._member, done)
            )
        for partition, (end, epoch) in done.items():
            if partition not in lost:
                self._note(partition, end, epoch)
        if lost:
            self._beat_now.set()
            numbers = ", ".join(map(str, sorted(lost)))
            raise LeaseLost(
                f"group {self._member.group!r} has given partition {numbers} of {self._member.topic} to another member"
            )

    async def leave(self) -> None:
        """Release everything at once, if the database can be reached; otherwise the leases run out."""
        for reading in self._owned.values():
            reading.is_lost = True
        self._owned.clear()
        try:
            await self._session.transaction(lambda cursor: embedded_groups.leave(cursor, self._member))
        except BrokerUnavailable as error:
            logs.get_logger().warning("broker_leave_failed", group=self._member.group, reason=str(error))

    def rearranged(self, group: str | None) -> None:
        """Look at once whether there is something to take or to give."""
        if group is None or group == self._member.address:
            self._beat_now.set()

    def _covers(self, partition: int, end: int) -> bool:
        reading = self._owned.get(partition)
        return reading is not None and reading.start < end <= reading.handed_out

    def _note(self, partition: int, end: int, epoch: int) -> None:
        reading = self._owned.get(partition)
        if reading is not None and reading.epoch == epoch:
            reading.acknowledged = max(reading.acknowledged, end)
            if reading.is_drained:
                self._beat_now.set()

    def _pause(self) -> float:
        """Until the next beat, or until something must be released."""
        pause = self._member.lease.total_seconds() / _BEATS_PER_LEASE
        ends = [reading.drained_by for reading in self._owned.values() if reading.drained_by is not None]
        return max(0.0, min([pause, *(end - time.monotonic() for end in ends)]))

    def _apply(self, share: Share, held_until: float) -> None:
        for partition, reading in list(self._owned.items()):
            holding = share.held.get(partition)
            if holding is None or holding.epoch != reading.epoch:
                reading.is_lost = True
                del self._owned[partition]
            elif reading.is_overdue:
                self._resume(reading)
        for partition, holding in share.held.items():
            if partition not in self._owned:
                self._owned[partition] = _begin(partition, holding)
                self._changed.set()
            self._owned[partition].held_until = held_until
        self._drain(share.surplus)

    def _drain(self, surplus: int) -> None:
        draining = [reading for reading in self._owned.values() if reading.drained_by is not None]
        for reading in draining[surplus:]:
            self._resume(reading)
        idle_first = sorted(self.readings(), key=lambda reading: reading.handed_out - reading.acknowledged)
        for reading in idle_first[: max(0, surplus - len(draining))]:
            reading.drained_by = time.monotonic() + self._member.lease.total_seconds()
            if reading.is_drained:
                self._beat_now.set()

    def _resume(self, reading: Reading) -> None:
        """It stays ours after all. What had been fetched and not handed out may be gone, so it is fetched again."""
        reading.is_lost = True
        self._owned[reading.partition] = Reading(
            reading.partition_id,
            reading.partition,
            reading.epoch,
            start=reading.start,
            position=reading.handed_out,
            handed_out=reading.handed_out,
            acknowledged=reading.acknowledged,
            held_until=reading.held_until,
        )
        self._changed.set()


def _begin(partition: int, holding: Holding) -> Reading:
    return Reading.begin(holding.partition_id, partition, epoch=holding.epoch, at=holding.committed_offset)
