"""A stand-in for Google Pub/Sub that keeps the service's documented promises, for what Google's own fake leaves out.

That fake (`pstest`) holds back a key's next message until the last is acknowledged, cannot wind a subscription back, knows
no snapshots and no limits. This one does all that as the documentation says, at its most unhelpful where it leaves a choice:
publish times have steps of a millisecond, all messages of a request share one, and when a message of a key comes again,
so do all that follow it, acknowledged or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty

from pipeline.broker import pubsub_service
from pipeline.broker.pubsub_service import Method
from pipeline.broker.pubsub_wire import PubsubMessage
from pipeline.broker.waiting import is_set_within

_REQUEST_BYTES: Final = 10_000_000
_RESPONSE_MESSAGES: Final = 100
_IDLE_S: Final = 0.05
_Code: Final = grpc.StatusCode


class Refused(Exception):
    """The answer to a request is an error."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(eq=False)
class Entry:
    """A published message."""

    number: int
    message: Any
    published: float


@dataclass(eq=False)
class Item:
    """A message in a subscription."""

    entry: Entry
    is_acked: bool = False
    ack_id: str = ""
    leased_until: float = 0.0
    stream: Stream | None = None
    deliveries: int = 0


@dataclass(eq=False)
class Stream:
    """A reader."""

    limit: int
    deadline: float
    outbox: asyncio.Queue[list[Item]] = field(default_factory=asyncio.Queue)
    """Ends with an empty list."""


@dataclass(eq=False)
class DoubledTopic:
    settings: Any
    log: list[Entry] = field(default_factory=list)


@dataclass(eq=False)
class DoubledSubscription:
    settings: Any
    lanes: dict[str, list[Item]] = field(default_factory=lambda: defaultdict(list))
    streams: list[Stream] = field(default_factory=list)
    by_ack_id: dict[str, Item] = field(default_factory=dict)


@dataclass(eq=False)
class DoubledSnapshot:
    unread: set[int]
    upto: int


class PubsubDouble:
    """The server. `shortest_deadline` is 10 s at Google's."""

    def __init__(self, now: Callable[[], float] = time.time, *, shortest_deadline: int = 10) -> None:
        self._now = now
        self._shortest_deadline = shortest_deadline
        self.topics: dict[str, DoubledTopic] = {}
        self.subscriptions: dict[str, DoubledSubscription] = {}
        self.snapshots: dict[str, DoubledSnapshot] = {}
        self.calls: dict[str, int] = defaultdict(int)
        """How often each method was called."""
        self.refusals: dict[str, Refused] = {}
        """Methods that fail, and how."""
        self.latency_s = 0.0
        """How long messages are on their way to a reader."""
        self.address = ""
        self._numbers = itertools.count(1)
        self._server: Any = None
        self._pumping: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, now: Callable[[], float] = time.time, **options: int
    ) -> AsyncIterator[PubsubDouble]:
        double = cls(now, **options)
        await double.start()
        try:
            yield double
        finally:
            await double.stop()

    async def start(self) -> None:
        """Answer, at the old address after a stop."""
        options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
        self._server = grpc.aio.server(options=(*options, ("grpc.so_reuseport", 0)))
        for service in ("Publisher", "Subscriber"):
            handlers = {
                method.path.rpartition("/")[2]: self._handler(method, work)
                for method, work in self._methods().items()
                if f".{service}/" in method.path
            }
            if service == "Subscriber":
                handlers["StreamingPull"] = grpc.stream_stream_rpc_method_handler(
                    self._streaming_pull,
                    request_deserializer=pubsub_service.STREAMING_PULL.request.FromString,
                    response_serializer=pubsub_service.STREAMING_PULL.response.SerializeToString,
                )
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(f"google.pubsub.v1.{service}", handlers),)
            )
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()
        self._pumping = asyncio.create_task(self._pump_for_ever())

    async def stop(self) -> None:
        """Be gone; what is known stays."""
        if self._pumping is not None:
            self._pumping.cancel()
            await asyncio.wait([self._pumping])
        for subscription in self.subscriptions.values():
            subscription.streams.clear()
        await self._server.stop(None)

    def _methods(self) -> dict[Method, Callable[[Any], Any]]:
        return {
            pubsub_service.PUBLISH: self._publish,
            pubsub_service.CREATE_TOPIC: self._create_topic,
            pubsub_service.GET_TOPIC: lambda request: self._topic(request.topic).settings,
            pubsub_service.UPDATE_TOPIC: lambda request: _update(
                self._topic(request.topic.name).settings, request.topic, request.update_mask
            ),
            pubsub_service.CREATE_SUBSCRIPTION: self._create_subscription,
            pubsub_service.GET_SUBSCRIPTION: lambda request: (
                self._subscription(request.subscription).settings
            ),
            pubsub_service.UPDATE_SUBSCRIPTION: lambda request: _update(
                self._subscription(request.subscription.name).settings,
                request.subscription,
                request.update_mask,
            ),
            pubsub_service.DELETE_SUBSCRIPTION: self._delete_subscription,
            pubsub_service.CREATE_SNAPSHOT: self._create_snapshot,
            pubsub_service.DELETE_SNAPSHOT: self._delete_snapshot,
            pubsub_service.SEEK: self._seek,
            pubsub_service.ACKNOWLEDGE: self._acknowledge,
            pubsub_service.MODIFY_ACK_DEADLINE: self._modify_ack_deadline,
        }

    def _handler(self, method: Method, work: Callable[[Any], Any]) -> Any:
        name = method.path.rpartition("/")[2]

        async def answer(request: Any, context: Any) -> Any:
            self.calls[name] += 1
            try:
                if name in self.refusals:
                    raise self.refusals[name]
                result = work(request)
            except Refused as error:
                await context.abort(error.code, str(error))
            self._wake.set()
            return result

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=method.request.FromString,
            response_serializer=method.response.SerializeToString,
        )

    def _topic(self, name: str) -> DoubledTopic:
        if name not in self.topics:
            raise Refused(_Code.NOT_FOUND, f"Resource not found (resource={name.rpartition('/')[2]}).")
        return self.topics[name]

    def _subscription(self, name: str) -> DoubledSubscription:
        if name not in self.subscriptions:
            raise Refused(_Code.NOT_FOUND, f"Resource not found (resource={name.rpartition('/')[2]}).")
        return self.subscriptions[name]

    def _create_topic(self, request: Any) -> Any:
        if request.name in self.topics:
            raise Refused(_Code.ALREADY_EXISTS, "Resource already exists in the project.")
        self.topics[request.name] = DoubledTopic(request)
        return request

    def _create_subscription(self, request: Any) -> Any:
        if request.name in self.subscriptions:
            raise Refused(_Code.ALREADY_EXISTS, "Resource already exists in the project.")
        self._topic(request.topic)
        if request.dead_letter_policy.dead_letter_topic:
            self._topic(request.dead_letter_policy.dead_letter_topic)
        if not self._shortest_deadline <= request.ack_deadline_seconds <= 600:
            raise Refused(_Code.INVALID_ARGUMENT, "Invalid ack deadline")
        if 0 < request.expiration_policy.ttl.seconds < 24 * 3600:
            raise Refused(_Code.INVALID_ARGUMENT, "Invalid expiration policy")
        self.subscriptions[request.name] = DoubledSubscription(request)
        return request

    def _delete_subscription(self, request: Any) -> Any:
        self._subscription(request.subscription)
        for stream in self.subscriptions.pop(request.subscription).streams:
            stream.outbox.put_nowait([])
        return Empty()

    def _publish(self, request: Any) -> Any:
        topic = self._topic(request.topic)
        if request.ByteSize() > _REQUEST_BYTES + 10_000 or not 0 < len(request.messages) <= 1000:
            raise Refused(_Code.INVALID_ARGUMENT, "The request is too large")
        for message in request.messages:
            _check(message)
        now = int(self._now() * 1000) / 1000
        return pubsub_service.PUBLISH.response(
            message_ids=[self._append(topic, message, now) for message in request.messages]
        )

    def _append(self, topic: DoubledTopic, message: Any, now: float) -> str:
        number = next(self._numbers)
        stored = PubsubMessage()
        stored.CopyFrom(message)
        stored.message_id = str(number)
        stored.publish_time.FromMilliseconds(round(now * 1000))
        entry = Entry(number, stored, now)
        topic.log.append(entry)
        for subscription in self.subscriptions.values():
            if subscription.settings.topic == topic.settings.name:
                subscription.lanes[_lane(entry)].append(Item(entry))
        return str(number)

    def _create_snapshot(self, request: Any) -> Any:
        subscription = self._subscription(request.subscription)
        unread = {
            item.entry.number for lane in subscription.lanes.values() for item in lane if not item.is_acked
        }
        log = self._topic(subscription.settings.topic).log
        self.snapshots[request.name] = DoubledSnapshot(unread, log[-1].number if log else 0)
        return pubsub_service.CREATE_SNAPSHOT.response(name=request.name)

    def _delete_snapshot(self, request: Any) -> Any:
        if self.snapshots.pop(request.snapshot, None) is None:
            raise Refused(_Code.NOT_FOUND, "Resource not found")
        return Empty()

    def _seek(self, request: Any) -> Any:
        subscription = self._subscription(request.subscription)
        self._expire()
        remembered = self._topic(subscription.settings.topic).log
        if request.snapshot:
            snapshot = self.snapshots[request.snapshot]
            wanted = [
                each for each in remembered if each.number in snapshot.unread or each.number > snapshot.upto
            ]
        else:
            since = request.time.seconds + request.time.nanos / 1e9
            wanted = [each for each in remembered if each.published >= since - 1e-6]
        subscription.lanes.clear()
        subscription.by_ack_id.clear()
        for entry in wanted:
            subscription.lanes[_lane(entry)].append(Item(entry))
        return pubsub_service.SEEK.response()

    def _acknowledge(self, request: Any) -> Any:
        subscription = self._subscription(request.subscription)
        self._expire()
        for ack_id in request.ack_ids:
            item = subscription.by_ack_id.pop(ack_id, None)
            if item is not None and item.ack_id == ack_id:
                item.is_acked, item.stream = True, None
        for lane in subscription.lanes.values():
            while lane and lane[0].is_acked:
                lane.pop(0)
        return Empty()

    def _modify_ack_deadline(self, request: Any) -> Any:
        subscription = self._subscription(request.subscription)
        self._expire()
        for ack_id in request.ack_ids:
            item = subscription.by_ack_id.get(ack_id)
            if item is None or item.ack_id != ack_id:
                continue
            if request.ack_deadline_seconds:
                item.leased_until = self._now() + request.ack_deadline_seconds
            else:
                _release(subscription, item)
        return Empty()

    async def _streaming_pull(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        first = await anext(requests)
        self.calls["StreamingPull"] += 1
        try:
            subscription = self._subscription(first.subscription)
        except Refused as error:
            await context.abort(error.code, str(error))
        stream = Stream(first.max_outstanding_messages or 10**9, first.stream_ack_deadline_seconds)
        subscription.streams.append(stream)
        self._wake.set()
        listening = asyncio.create_task(_listen(requests, subscription, stream))
        try:
            while items := await stream.outbox.get():
                await asyncio.sleep(self.latency_s)
                yield pubsub_service.STREAMING_PULL.response(
                    received_messages=[
                        {
                            "ack_id": item.ack_id,
                            "message": item.entry.message,
                            "delivery_attempt": item.deliveries,
                        }
                        for item in items
                    ]
                )
        finally:
            listening.cancel()
            if stream in subscription.streams:
                subscription.streams.remove(stream)
            self._wake.set()

    async def _pump_for_ever(self) -> None:
        while True:
            await is_set_within(self._wake, _IDLE_S)
            self._wake.clear()
            self._expire()
            for subscription in list(self.subscriptions.values()):
                self._pump(subscription)

    def _expire(self) -> None:
        now = self._now()
        for topic in self.topics.values():
            since = now - topic.settings.message_retention_duration.seconds
            while topic.log and topic.log[0].published < since:
                topic.log.pop(0)
        for subscription in self.subscriptions.values():
            since = now - subscription.settings.message_retention_duration.seconds
            for lane in subscription.lanes.values():
                while lane and lane[0].entry.published < since:
                    lane.pop(0)
                overdue = next((item for item in lane if item.stream and item.leased_until <= now), None)
                if overdue is not None:
                    _release(subscription, overdue)

    def _pump(self, subscription: DoubledSubscription) -> None:
        streams = subscription.streams
        if not streams:
            return
        free = {
            stream: stream.limit
            - sum(item.stream is stream for lane in subscription.lanes.values() for item in lane)
            for stream in streams
        }
        for position, (_, lane) in enumerate(sorted(subscription.lanes.items())):
            owner = next((item.stream for item in lane if item.stream), streams[position % len(streams)])
            if owner not in free:
                continue  # its reader is gone, and its leases have not run out
            waiting = [item for item in lane if not item.is_acked and item.stream is None][: free[owner]]
            waiting = [item for item in waiting if not self._is_given_up(subscription, item)]
            for item in waiting:
                self._lease(subscription, item, owner)
            free[owner] -= len(waiting)
            for begin in range(0, len(waiting), _RESPONSE_MESSAGES):
                owner.outbox.put_nowait(waiting[begin : begin + _RESPONSE_MESSAGES])

    def _lease(self, subscription: DoubledSubscription, item: Item, stream: Stream) -> None:
        item.deliveries += 1
        item.stream = stream
        item.leased_until = self._now() + stream.deadline
        item.ack_id = f"{item.entry.number}-{item.deliveries}-{id(stream)}"
        subscription.by_ack_id[item.ack_id] = item

    def _is_given_up(self, subscription: DoubledSubscription, item: Item) -> bool:
        policy = subscription.settings.dead_letter_policy
        if not policy.dead_letter_topic or item.deliveries < policy.max_delivery_attempts:
            return False
        item.is_acked = True
        dead = PubsubMessage()
        dead.CopyFrom(item.entry.message)
        dead.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] = str(item.deliveries)
        dead.attributes["CloudPubSubDeadLetterSourceSubscription"] = subscription.settings.name.split("/")[3]
        dead.attributes["CloudPubSubDeadLetterSourceSubscriptionProject"] = subscription.settings.name.split(
            "/"
        )[1]
        self._append(self._topic(policy.dead_letter_topic), dead, int(self._now() * 1000) / 1000)
        return True


async def _listen(requests: AsyncIterator[Any], subscription: DoubledSubscription, stream: Stream) -> None:
    """A reader that says no more gets what is on its way, and then the end."""
    async for _ in requests:
        pass
    if stream in subscription.streams:
        subscription.streams.remove(stream)
    stream.outbox.put_nowait([])


def _lane(entry: Entry) -> str:
    """Without an ordering key there is no order."""
    return entry.message.ordering_key or f"#{entry.number}"


def _release(subscription: DoubledSubscription, item: Item) -> None:
    """It will come again, and so will all of its key that follow."""
    lane = subscription.lanes[_lane(item.entry)]
    if item not in lane:
        return
    for each in lane[lane.index(item) :]:
        each.is_acked, each.stream = False, None
        subscription.by_ack_id.pop(each.ack_id, None)


def _update(settings: Any, wanted: Any, mask: Any) -> Any:
    mask.MergeMessage(wanted, settings, replace_message_field=True)
    return settings


def _check(message: Any) -> None:
    names = message.attributes
    is_fit = (
        (message.data or names)
        and len(names) <= 100
        and len(message.ordering_key.encode()) <= 1024
        and message.ByteSize() <= _REQUEST_BYTES
        and all(0 < len(name.encode()) <= 256 and not name.startswith("goog") for name in names)
        and all(0 < len(text.encode()) <= 1024 for text in names.values())
    )
    if not is_fit:
        raise Refused(_Code.INVALID_ARGUMENT, "The message is against the rules")
