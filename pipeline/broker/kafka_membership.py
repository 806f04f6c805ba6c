"""What one subscription may read on Kafka: the partitions that its group has given it, or all of them.

When the group is rearranged, Kafka takes all partitions from everybody and deals them out anew. Before ours go, they are
*drained*: nothing more is handed out, and what the reader has in hand may still be acknowledged, for a bounded time. What
had been fetched and not handed out is dropped, and read again by the new owner. A partition that comes back to us goes on
behind what the reader still has in hand, if nobody else has moved the group's position meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition, errors
from aiokafka.abc import ConsumerRebalanceListener

from pipeline import logs
from pipeline.broker.kafka_client import ANSWER_S, METADATA_AGE_S, Link
from pipeline.broker.kafka_inspector import Inspector
from pipeline.broker.kafka_reading import Reader, Reading
from pipeline.broker.protocol import From
from pipeline.broker.waiting import is_set_within
from pipeline.errors import BrokerUnavailable, LeaseLost
from pipeline.retry import Backoff

_LONGEST_PAUSE_S: Final = 2.0


class Alone(Reader):
    """Reads every partition and leaves no trace."""

    def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        """Start reading there; also with more partitions than before, those then from where they were."""
        for partition, at in positions.items():
            self._readings.setdefault(partition, Reading.begin(at))
        self._consumer.assign(list(self._readings))
        self._rewind()

    def idle(self) -> Collection[TopicPartition]:
        """Nobody acknowledges, so no partition is better to read than another."""
        return ()

    async def keep(self) -> None:
        """Notice new partitions, and read them from their first message: they began while we were listening."""
        while True:
            await asyncio.sleep(METADATA_AGE_S)
            name = next(iter(self._readings)).topic
            numbers = self._consumer.partitions_for_topic(name) or ()
            new = [
                TopicPartition(name, each)
                for each in numbers
                if TopicPartition(name, each) not in self._readings
            ]
            if new:
                self.begin(dict.fromkeys(new, 0))

    async def acknowledge(self, ends: Mapping[int, int]) -> None:
        """Nobody wants to know."""

    def release(self) -> None:
        """Nothing is held."""


class GroupMembership(Reader, ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """A member of a group."""

    def __init__(
        self,
        topic: str,
        consumer: AIOKafkaConsumer,
        inspector: Inspector,
        link: Link,
        *,
        group: str,
        drain_s: float,
    ) -> None:
        """`group` is the group's full name."""
        super().__init__(topic, consumer, inspector, link)
        self._group = group
        self._drain_s = drain_s
        self._dealt: frozenset[TopicPartition] = frozenset()
        self._is_dealt = asyncio.Event()
        """Partitions have been given to us, and wait for being looked at."""
        self._is_settled = asyncio.Event()
        """We know what is ours, and from where on; or it is being drained."""
        self._progress = asyncio.Event()
        self._is_released = False

    def idle(self) -> Collection[TopicPartition]:
        """Partitions of which the reader has nothing in hand: reading them first spreads what a crash would repeat."""
        idle = [partition for partition, reading in self._readings.items() if not reading.is_in_hand]
        return idle if len(idle) < len(self._readings) else ()

    async def joined(self, seconds: float) -> bool:
        """Wait until the group has given us our first share; False if it takes longer."""
        return await is_set_within(self._is_settled, seconds)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Called when the group is rearranged; the group waits for our return."""
        self._epoch += 1
        self._is_dealt.clear()
        deadline = time.monotonic() + self._drain_s
        while self._is_settled.is_set() and not self._is_released and self._has_something_in_hand(revoked):
            self._progress.clear()
            if not await is_set_within(self._progress, deadline - time.monotonic()):
                logs.get_logger().warning("broker_drain_timeout", group=self._group, seconds=self._drain_s)
                break
        self._is_settled.clear()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Called when the group has dealt out its partitions. Nothing is read before we know from where on."""
        self._consumer.pause(*assigned)
        self._epoch += 1
        self._dealt = frozenset(assigned)
        self._is_dealt.set()

    async def keep(self) -> None:
        """Look up where to begin, whenever partitions are given to us."""
        backoff = Backoff(cap_s=_LONGEST_PAUSE_S)
        while True:
            await self._is_dealt.wait()
            try:
                await self._settle(self._epoch)
                backoff.reset()
            except BrokerUnavailable as error:
                logs.get_logger().warning("broker_positions_unknown", group=self._group, reason=str(error))
                await asyncio.sleep(backoff.next())

    async def acknowledge(self, ends: Mapping[int, int]) -> None:
        """Record progress; raises `LeaseLost` for partitions that have passed on, or `BrokerUnavailable`."""
        if not await is_set_within(self._is_settled, self._drain_s + ANSWER_S):
            raise BrokerUnavailable(f"kafka: group {self._group} is still being rearranged")
        places = {partition.partition: partition for partition in self._readings}
        covered = {
            places[number]: end for number, end in ends.items() if self._covers(places.get(number), end)
        }
        lost = ends.keys() - {partition.partition for partition in covered}
        readings = {partition: self._readings[partition] for partition in covered}
        due = {partition: end for partition, end in covered.items() if end > readings[partition].acknowledged}
        if due and not await self._commit(due):
            for partition in due:
                readings[partition].is_lost = True
            lost |= {partition.partition for partition in due}
        for partition, end in due.items():
            readings[partition].acknowledged = max(readings[partition].acknowledged, end)
        self._progress.set()
        if lost:
            numbers = ", ".join(map(str, sorted(lost)))
            raise LeaseLost(
                f"group {self._group} has given partition {numbers} of {self._topic} to another member"
            )

    def release(self) -> None:
        """We are leaving: nobody needs to wait for us."""
        self._is_released = True
        self._progress.set()

    async def _commit(self, ends: Mapping[TopicPartition, int]) -> bool:
        """True when it is recorded; False when we are no longer a member, or the partitions are not ours."""
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._consumer.commit(dict(ends))
        except errors.CommitFailedError as error:
            if isinstance(error.__cause__, errors.RebalanceInProgressError):
                raise BrokerUnavailable(f"kafka: group {self._group} is being rearranged") from error
            return False
        except errors.IllegalStateError:
            return False
        except (TimeoutError, errors.KafkaError) as error:
            raise await self._link.explain(f"acknowledging in group {self._group}", error) from error
        return True

    async def _settle(self, epoch: int) -> None:
        partitions = sorted(self._dealt)
        positions = await self._inspector.committed(self._group, partitions) if partitions else {}
        new = [partition for partition in partitions if partition not in positions]
        if new:  # added since the group began: it has been listening all along
            positions |= await self._inspector.offsets(new, From.EARLIEST)
        if epoch != self._epoch:
            return
        before, self._readings = self._readings, {}
        for partition in partitions:
            reading = _continued(before.pop(partition, None), positions[partition])
            self._readings[partition] = reading
            self._consumer.seek(partition, reading.handed_out)
        for reading in before.values():
            reading.is_lost = True
        self._is_dealt.clear()
        self._is_settled.set()
        self._consumer.resume(*partitions)

    def _has_something_in_hand(self, partitions: Collection[TopicPartition]) -> bool:
        return any(
            reading.is_in_hand for partition, reading in self._readings.items() if partition in partitions
        )

    def _covers(self, partition: TopicPartition | None, end: int) -> bool:
        reading = None if partition is None else self._readings.get(partition)
        return reading is not None and not reading.is_lost and reading.start < end <= reading.handed_out


def _continued(before: Reading | None, committed: int) -> Reading:
    """The reading that we had, if what the reader has in hand begins no later than the group's position.

    Then nothing is lost: all that lies between that position and what we hand out next is in the reader's hands.
    """
    if before is None or before.is_lost or not before.start <= committed <= before.handed_out:
        if before is not None:
            before.is_lost = True
        return Reading.begin(committed)
    before.acknowledged = max(before.acknowledged, committed)
    return before
