"""Reading a subscription of Pub/Sub: a stream of messages, leases that are kept alive, batches that are handed out.

One batch is in the reader's hands, one waits for it; the server sends no more until something has been acknowledged. Every
message is leased to us for the ack deadline; while it is in our hands the lease is renewed well before. A message that comes again while we still hold it is
not handed out twice: only its lease is renewed. Whether a lease still holds is judged by our own clock, from the moment
at which the last renewal that the server confirmed was *sent*, so we never believe in it for longer than the server does.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self

from pipeline import logs
from pipeline.broker import pubsub_service
from pipeline.broker.protocol import Batch, Received
from pipeline.broker.pubsub_leases import Leases
from pipeline.broker.pubsub_replay import delete_subscription
from pipeline.broker.pubsub_service import NotThere, Service
from pipeline.broker.pubsub_wire import FENCE, Offsets, decode
from pipeline.broker.waiting import is_set_within
from pipeline.errors import BrokerUnavailable, Misconfigured
from pipeline.retry import Backoff
from schemas.ids import new_ulid

_AHEAD_BYTES: Final = 64 * 1024 * 1024
_LONGEST_PAUSE_S: Final = 2.0
_HEARTBEAT_S: Final = 30.0
"""The server closes a stream on which nothing is ever said."""
_FAREWELL_S: Final = 1.0
"""How long a leaving reader waits for what is on its way to it, to give that back, too."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the reader asked for."""

    topic: str
    partitions: int
    max_records: int
    max_wait: timedelta
    subscription: str
    """Its full name."""
    is_private: bool
    """Nobody else reads it: nothing has to be acknowledged, and it is deleted at the end."""
    ack_deadline: timedelta

    @property
    def unacknowledged(self) -> int:
        """How many messages the server may have with us: two batches, less what is acknowledged as it is handed out."""
        return self.max_records if self.is_private else 2 * self.max_records


class PubsubSubscription:
    """See `protocol.Subscription`."""

    def __init__(self, service: Service, options: Options) -> None:
        self._service = service
        self._options = options
        self._leases = Leases(service, options.subscription, options.ack_deadline)
        self._offsets = Offsets()
        self._client_id = new_ulid()
        self._ready: deque[tuple[str, Received]] = deque()
        """Message id and message, not yet handed out."""
        self._waiting_since = 0.0
        """When the first of them arrived; monotonic."""
        self._has_arrived = asyncio.Event()
        self._given: list[str] = []
        """Ack ids of what a private reader has been given, which nobody else will acknowledge."""
        self._has_given = asyncio.Event()
        self._stream: Any = None
        self._stream_ended = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._is_closed = False

    def start(self) -> None:
        """Begin to read ahead."""
        self._work = asyncio.create_task(self._serve())
        self._work.add_done_callback(lambda _: self._has_arrived.set())

    async def close(self) -> None:
        """Stop reading and give back what was not acknowledged. Harmless when repeated."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._work is not None:
            await self._say_farewell()
            self._work.cancel()
            await asyncio.wait([self._work])
        if self._options.is_private:
            await delete_subscription(self._service, self._options.subscription)
        else:
            await self._leases.give_back()

    def __aiter__(self) -> Self:
        """See the protocol."""
        return self

    async def __anext__(self) -> Batch:
        """The next batch. Can be cancelled, and asked again, without losing anything."""
        while self._is_reading:
            await self._gather()
            if not self._is_closed and (messages := self._hand_out()):
                return Batch(messages)
        if self._work is not None and self._work.done() and not self._work.cancelled():
            self._work.result()
        raise StopAsyncIteration

    async def acknowledge(self, batch: Batch) -> None:
        """See the protocol."""
        if not self._options.is_private:
            await self._leases.acknowledge(batch.messages)

    @property
    def _is_reading(self) -> bool:
        return not self._is_closed and self._work is not None and not self._work.done()

    async def _gather(self) -> None:
        """Wait for a first message, and then a little for more."""
        if not self._ready:
            self._has_arrived.clear()
            await self._has_arrived.wait()
        deadline = self._waiting_since + self._options.max_wait.total_seconds()
        while len(self._ready) < self._options.max_records and self._is_reading:
            self._has_arrived.clear()
            if not await is_set_within(self._has_arrived, deadline - time.monotonic()):
                return

    def _hand_out(self) -> list[Received]:
        """Messages that are ours to read. What has slipped from us comes again, and all of its partition behind it."""
        messages: list[Received] = []
        lost: set[int] = set()
        while self._ready and len(messages) < self._options.max_records:
            message_id, message = self._ready.popleft()
            if message.partition in lost or not self._leases.is_held(message_id):
                lost.add(message.partition)
                self._leases.forget(message_id)
                continue
            messages.append(message)
            if self._options.is_private:
                self._given.append(self._leases.give_up(message_id))
            else:
                self._leases.hand_out(message_id, message)
        if lost:
            self._drop(lost)
        self._has_given.set()
        self._waiting_since = time.monotonic()
        return messages

    def _drop(self, partitions: set[int]) -> None:
        kept = [(each, message) for each, message in self._ready if message.partition not in partitions]
        for message_id, message in self._ready:
            if message.partition in partitions:
                self._leases.forget(message_id)
        self._ready = deque(kept)

    async def _serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._leases.keep())
                tasks.create_task(self._read())
                if self._options.is_private:
                    tasks.create_task(self._let_go())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _let_go(self) -> None:
        """Acknowledge what a private reader has been given, so that more may come."""
        backoff = Backoff(cap_s=_LONGEST_PAUSE_S)
        while True:
            await self._has_given.wait()
            self._has_given.clear()
            given, self._given = self._given, []
            try:
                await self._leases.pass_over(given)
            except BrokerUnavailable as error:
                logs.get_logger().warning(
                    "broker_acknowledge_failed", topic=self._options.topic, reason=str(error)
                )
                self._given = given + self._given
                self._has_given.set()
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()

    async def _say_farewell(self) -> None:
        """Ask for no more, and take what is on its way: whatever the server has sent is leased to us."""
        stream = self._stream
        if stream is None or self._options.is_private:
            return
        try:
            async with asyncio.timeout(_FAREWELL_S):
                await stream.done_writing()
                await self._stream_ended.wait()
        except (TimeoutError, asyncio.InvalidStateError, pubsub_service.CallFailed) as error:
            logs.get_logger().debug("broker_left_in_haste", reason=str(error))

    async def _read(self) -> None:
        backoff = Backoff(cap_s=_LONGEST_PAUSE_S)
        while not self._is_closed:
            try:
                await self._read_stream(backoff)
            except BrokerUnavailable as error:
                if self._options.is_private and isinstance(error, NotThere):
                    raise Misconfigured(
                        f"the subscription of this reader of {self._options.topic} is gone; after a day without reading it"
                        " expires. Start again: what was missed is read from the store"
                    ) from error
                logs.get_logger().warning("broker_read_failed", topic=self._options.topic, reason=str(error))
            await asyncio.sleep(backoff.next())

    async def _read_stream(self, backoff: Backoff) -> None:
        """Read until the server ends the stream; it does so every now and then."""
        async with AsyncExitStack() as stack:
            stream = await stack.enter_async_context(
                self._service.stream(
                    self._options.subscription,
                    stream_ack_deadline_seconds=int(self._options.ack_deadline.total_seconds()),
                    client_id=self._client_id,
                    max_outstanding_messages=self._options.unacknowledged,
                    max_outstanding_bytes=_AHEAD_BYTES,
                )
            )
            heart = asyncio.create_task(_beat(stream))
            stack.callback(heart.cancel)
            stack.callback(self._forget_stream)
            self._stream = stream
            self._stream_ended.clear()
            while (response := await stream.read()) is not pubsub_service.END:
                backoff.reset()
                await self._take(response.received_messages)

    def _forget_stream(self) -> None:
        self._stream = None
        self._stream_ended.set()

    async def _take(self, arrived: Sequence[Any]) -> None:
        at = time.monotonic()
        passed_over = []
        if not self._ready:
            self._waiting_since = at
        for each in arrived:
            if FENCE in each.message.attributes:
                passed_over.append(each.ack_id)
            elif not self._leases.renew(each.message.message_id, each.ack_id, at):
                message = self._decoded(each.message)
                self._leases.add(each.message.message_id, each.ack_id, at)
                self._ready.append((each.message.message_id, message))
        self._has_arrived.set()
        if passed_over:
            await self._leases.pass_over(passed_over)

    def _decoded(self, message: Any) -> Received:
        return decode(self._options.topic, message, self._options.partitions, self._offsets)


async def _beat(stream: Any) -> None:
    """Say now and then that we are still here, until the stream is gone: then its reader finds out as well."""
    while not stream.done():
        await asyncio.sleep(_HEARTBEAT_S)
        try:
            await stream.write(pubsub_service.StreamingPullRequest())
        except (asyncio.InvalidStateError, pubsub_service.CallFailed):
            return
