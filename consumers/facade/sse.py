"""Server-sent events: how they look on the wire, and one reader of a stream.

Writes go straight to the transport, and the bytes of a message are made once for all readers: aiohttp's own writer would
cost several times as much for each of them. So this module also spells HTTP's chunks.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import StrEnum
from typing import Final

import orjson
from aiohttp import HttpVersion11, web

from consumers.facade.fleet import Change, Snapshot
from consumers.facade.settings import FacadeSettings

HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "Connection": "keep-alive",
}


class StreamKind(StrEnum):
    """What a stream carries. Also a metric's label."""

    FLEET = "fleet"
    MACHINE = "machine"
    LEGACY = "legacy"
    POWER = "power"


class Block:
    """Some messages, ready to be written to any number of readers."""

    __slots__ = ("chunk", "plain")

    def __init__(self, messages: bytes) -> None:
        self.plain = messages
        """For HTTP/1.0, as nginx speaks to its backends unless told otherwise."""
        self.chunk = b"%x\r\n%b\r\n" % (len(messages), messages)


HEARTBEAT: Final = Block(b":\n\n")
RETRY: Final = b"retry: 1000\n\n"


def message(data: bytes, *, event: bytes = b"", event_id: bytes) -> bytes:
    """One message. JSON from `answers` has no line breaks, so `data` is one line."""
    kind = b"event: %b\n" % event if event else b""
    return b"id: %b\n%bdata: %b\n\n" % (event_id, kind, data)


def told(snapshot: Snapshot, event_id: bytes) -> bytes:
    """A machine's state, or its end."""
    if snapshot.json:
        return b"id: %b\nevent: machine\ndata: %b\n\n" % (event_id, snapshot.json)
    return message(orjson.dumps({"id": snapshot.id}), event=b"deleted", event_id=event_id)


def told_to_fleet(change: Change, boot_id: bytes) -> bytes:
    """The same, for a stream of all machines."""
    return told(change.machine, b"%b-%d" % (boot_id, change.position))


def told_to_watcher(snapshot: Snapshot, kind: StreamKind) -> bytes:
    """The same, for a stream of one machine. The old machine server's streams say nothing of a machine's end."""
    event_id = b"%d" % snapshot.version
    if kind is StreamKind.MACHINE:
        return told(snapshot, event_id)
    return message(snapshot.json, event_id=event_id) if snapshot.json else b""


class TooSlow(Exception):
    """A reader did not take what it was sent in time."""


class Reader:
    """The other end of one stream.

    It is *live* while it gets everything as it happens. One that lags is taken off: what it missed it gets from the log,
    at its own pace, and if even that takes too long it is cut off. So no reader ever holds more than a bounded buffer.
    """

    def __init__(self, request: web.Request, settings: FacadeSettings, kind: StreamKind) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        self.kind: Final = kind
        self.position = 0
        """Up to where in the log it has been told, when it is taken off; of a stream of all machines."""
        self._transport = transport
        self._writer = request.writer
        self._chunked = request.version >= HttpVersion11
        self._limit = settings.stream_buffer_bytes
        self._patience_s = settings.stream_patience.total_seconds()
        self._off = asyncio.Event()
        transport.set_write_buffer_limits(high=self._limit)  # so that `drained` and `put` agree

    @property
    def gone(self) -> bool:
        """Whether nobody reads any more."""
        return self._transport.is_closing()

    @property
    def lags(self) -> bool:
        """Whether more waits to be read than should."""
        return self._transport.get_write_buffer_size() > self._limit

    def put(self, block: Block) -> bool:
        """Write, without waiting. False: nothing was written, because the reader lags too far or is gone."""
        if self._transport.is_closing() or self.lags:
            return False
        self._transport.write(block.chunk if self._chunked else block.plain)
        return True

    async def drained(self) -> None:
        """Wait until there is room again. Raises `TooSlow`, and ConnectionError when the reader is gone."""
        if self._transport.is_closing():
            raise ConnectionResetError("the client has gone")
        try:
            await asyncio.wait_for(self._writer.drain(), self._patience_s)
        except TimeoutError:
            raise TooSlow from None
        await asyncio.sleep(0)  # a reader that never lags must not keep others waiting

    async def send(self, messages: bytes) -> None:
        """Write and wait until there is room for more."""
        if messages:
            self.put(Block(messages))
        await self.drained()

    def take_off(self) -> None:
        """Tell whoever serves it that it is no longer live."""
        self._off.set()

    async def live(self) -> None:
        """Return when it has been taken off."""
        await self._off.wait()
        self._off.clear()

    def cut_off(self) -> None:
        """Close the connection, and forget what was not sent."""
        self._transport.abort()


async def open_stream(request: web.Request) -> web.StreamResponse:
    """Send the headers. Raises ConnectionError when the client is gone already."""
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(request)
    await response.write(RETRY)
    return response


async def end_stream(response: web.StreamResponse) -> None:
    """Let the client know that this was all; it will come back."""
    with suppress(ConnectionError):
        await response.write_eof()
