"""The leases of one reader: which messages are in its hands, until when, and under which ack id."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

from pipeline import logs
from pipeline.broker import pubsub_service
from pipeline.broker.protocol import Received
from pipeline.broker.pubsub_service import Service
from pipeline.errors import BrokerUnavailable, LeaseLost

_RENEWALS_PER_LEASE: Final = 4
_IDS_PER_CALL: Final = 1000
"""A request may have 512 KiB, an ack id about 200 bytes."""

Item = TypeVar("Item")
Place = tuple[int, int]
"""Partition and offset."""


@dataclass(slots=True, eq=False)
class _Held:
    ack_id: str
    held_until: float
    """Monotonic."""
    place: Place | None = None
    """Once it has been handed out."""
    is_acknowledged: bool = False


class Leases:
    """Keeps the right to work on messages."""

    def __init__(self, service: Service, subscription: str, ack_deadline: timedelta) -> None:
        self._service = service
        self._subscription = subscription
        self._lease_s = ack_deadline.total_seconds()
        self._held: dict[str, _Held] = {}
        self._ids: dict[Place, str] = {}

    def add(self, message_id: str, ack_id: str, at: float) -> None:
        """A message has arrived."""
        self._held[message_id] = _Held(ack_id, at + self._lease_s)

    def renew(self, message_id: str, ack_id: str, at: float) -> bool:
        """A message has arrived, perhaps again: True when it is in our hands already, and is so for longer now."""
        held = self._held.get(message_id)
        if held is None:
            return False
        held.ack_id, held.held_until = ack_id, at + self._lease_s
        return True

    def hand_out(self, message_id: str, message: Received) -> None:
        """The reader has it now."""
        held = self._held.get(message_id)
        if held is not None:
            held.place = message.partition, message.offset
            self._ids[held.place] = message_id

    def is_held(self, message_id: str) -> bool:
        """Whether it is still ours, as far as we know."""
        held = self._held.get(message_id)
        return held is not None and time.monotonic() < held.held_until

    def forget(self, message_id: str) -> None:
        """It is not ours any more; if it comes again, it is a new one."""
        held = self._held.pop(message_id, None)
        if held is not None and held.place is not None:
            self._ids.pop(held.place, None)

    def give_up(self, message_id: str) -> str:
        """Hand it out for good: the ack id, for whoever acknowledges it."""
        ack_id = self._held[message_id].ack_id
        self.forget(message_id)
        return ack_id

    async def keep(self) -> None:
        """Renew what would run out, for ever."""
        while True:
            await asyncio.sleep(self._lease_s / _RENEWALS_PER_LEASE)
            try:
                await self.extend()
            except BrokerUnavailable as error:
                logs.get_logger().warning(
                    "broker_leases_not_renewed", subscription=self._subscription, reason=str(error)
                )

    async def extend(self) -> None:
        """Renew what has not been renewed for a while."""
        soon = time.monotonic() + self._lease_s * (1 - 1 / _RENEWALS_PER_LEASE)
        due = [held for held in self._held.values() if held.held_until < soon and not held.is_acknowledged]
        for part in _cut(due):
            until = time.monotonic() + self._lease_s
            ids = [held.ack_id for held in part]
            await self._set_deadline(ids, int(self._lease_s))
            for held, ack_id in zip(part, ids, strict=True):
                if held.ack_id == ack_id:
                    held.held_until = max(held.held_until, until)

    async def acknowledge(self, messages: Sequence[Received]) -> None:
        """Tell the server; raises `LeaseLost` for messages that are not ours any more, or `BrokerUnavailable`."""
        ids = [self._ids.get((message.partition, message.offset)) for message in messages]
        ours = [each for each in ids if each is not None and self.is_held(each)]
        for part in _cut([self._held[each] for each in ours if not self._held[each].is_acknowledged]):
            await self.pass_over([held.ack_id for held in part])
            for held in part:
                held.is_acknowledged = True
        for each in ids:
            if each is not None:
                self.forget(each)
        if len(ours) < len(ids):
            raise LeaseLost(
                f"{len(ids) - len(ours)} of {len(ids)} messages were held for too long: they have passed on to"
                f" another member of {self._subscription.rpartition('/')[2]}, or will"
            )

    async def pass_over(self, ack_ids: Sequence[str]) -> None:
        """Acknowledge what is of no interest."""
        for part in _cut(ack_ids):
            await self._service.call(
                pubsub_service.ACKNOWLEDGE, subscription=self._subscription, ack_ids=part
            )

    async def give_back(self) -> None:
        """Let others have what is in our hands at once, if the server can be reached; otherwise the leases run out."""
        waiting = [held.ack_id for held in self._held.values() if not held.is_acknowledged]
        self._held.clear()
        self._ids.clear()
        try:
            for part in _cut(waiting):
                await self._set_deadline(part, 0)
        except BrokerUnavailable as error:
            logs.get_logger().warning(
                "broker_leave_failed", subscription=self._subscription, reason=str(error)
            )

    async def _set_deadline(self, ack_ids: Sequence[str], seconds: int) -> None:
        await self._service.call(
            pubsub_service.MODIFY_ACK_DEADLINE,
            subscription=self._subscription,
            ack_ids=ack_ids,
            ack_deadline_seconds=seconds,
        )


def _cut(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for begin in range(0, len(items), _IDS_PER_CALL):
        yield items[begin : begin + _IDS_PER_CALL]
