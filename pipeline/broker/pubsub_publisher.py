"""Publishing to Pub/Sub: per topic one request at a time, and everything that waits meanwhile goes out in the next one.

One at a time, because requests that are under way together may overtake each other, and then an ordering key is in no
order. The client library's publisher does the same per key, and needs to be told to go on after every error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.broker import pubsub_service
from pipeline.broker.pubsub_service import Service
from pipeline.broker.pubsub_wire import MESSAGE_BYTES, Message
from pipeline.errors import BrokerUnavailable

_REQUEST_BYTES: Final = MESSAGE_BYTES + 5_000
_REQUEST_MESSAGES: Final = 1000
_FRAME_BYTES: Final = 5
_MOST_WAITING_BYTES: Final = 64 * 1024 * 1024


@dataclass(slots=True)
class _Request:
    """Messages that will be published together; more may join until it is sent."""

    messages: list[Message] = field(default_factory=list)
    size: int = 0


class Publisher:
    """Sends messages, to each topic in the order of the calls."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._gathering: dict[str, tuple[_Request, asyncio.Task[None]]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._room = asyncio.Condition()
        self._under_way: set[asyncio.Task[None]] = set()
        self._waiting_bytes = 0
        self._is_closed = False

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Publish messages of one topic and return once they are safe; waits while too much is under way."""
        for part, size in _cut(messages):
            await self._publish(topic, part, size)

    async def close(self) -> None:
        """Publish what has been taken, and take no more."""
        self._is_closed = True
        async with self._room:
            self._room.notify_all()
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _publish(self, topic: str, messages: Sequence[Message], size: int) -> None:
        async with self._room:
            await self._room.wait_for(lambda: self._has_room(size))
            if self._is_closed:
                raise BrokerUnavailable("Pub/Sub: closed")
            self._waiting_bytes += size
        request, task = self._joinable(topic, len(messages), size)
        request.messages.extend(messages)
        request.size += size
        await asyncio.shield(task)  # a caller that goes away takes nobody else's messages along

    def _has_room(self, size: int) -> bool:
        return self._is_closed or not self._waiting_bytes or self._waiting_bytes + size <= _MOST_WAITING_BYTES

    def _joinable(self, topic: str, count: int, size: int) -> tuple[_Request, asyncio.Task[None]]:
        gathering = self._gathering.get(topic)
        if gathering is not None:
            request = gathering[0]
            if request.size + size <= _REQUEST_BYTES and len(request.messages) + count <= _REQUEST_MESSAGES:
                return gathering
        request = _Request()
        task = asyncio.create_task(self._send(topic, request))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        self._gathering[topic] = request, task
        return request, task

    async def _send(self, topic: str, request: _Request) -> None:
        try:
            async with self._turns.setdefault(topic, asyncio.Lock()):
                gathering = self._gathering.get(topic)
                if gathering is not None and gathering[0] is request:
                    del self._gathering[topic]  # latecomers take the next one
                await self._service.call(pubsub_service.PUBLISH, topic=topic, messages=request.messages)
        finally:
            async with self._room:
                self._waiting_bytes -= request.size
                self._room.notify_all()


def _cut(messages: Sequence[Message]) -> Iterator[tuple[Sequence[Any], int]]:
    """The messages in pieces that fit into a request, with their sizes."""
    begin = filled = 0
    for at, message in enumerate(messages):
        size = message.ByteSize() + _FRAME_BYTES
        if at > begin and (filled + size > _REQUEST_BYTES or at - begin >= _REQUEST_MESSAGES):
            yield messages[begin:at], filled
            begin, filled = at, 0
        filled += size
    if begin < len(messages):
        yield messages[begin:], filled
