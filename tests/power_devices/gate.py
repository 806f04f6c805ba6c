"""What stands between a client and a fake device's server: it can be shut, go silent, or cut what passes through."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

CHUNK = 65536


class Gate:
    """Forwards TCP connections from an address that stays the same to a server on loopback."""

    def __init__(self, is_silent: Callable[[], bool]) -> None:
        """`is_silent`: whether what comes is swallowed now, in both directions."""
        self._is_silent = is_silent
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._mute: set[asyncio.StreamWriter] = set()
        self._forwarding: set[asyncio.Task[None]] = set()
        self._inner_port = 0
        self.port = 0
        self.connected_at: list[float] = []
        """`time.monotonic()` of each connection."""
        self.bytes_at: list[float] = []
        """`time.monotonic()` of each piece that came from a client, before the server saw it."""

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._writers) // 2

    async def open(self, inner_port: int) -> None:
        """Listen; in front of 127.0.0.1:`inner_port`."""
        self._inner_port = inner_port
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Listen no longer, and cut what is connected."""
        if self._server is None:
            return
        self._server.close()
        await self.cut()
        while self._forwarding:  # some have come and are not connected to the server yet
            for each in self._forwarding:
                each.cancel()
            await asyncio.wait(self._forwarding)
        await self._server.wait_closed()
        self._server = None

    async def cut(self) -> None:
        """Cut what is connected, without a word."""
        writers = list(self._writers)
        for writer in writers:
            writer.transport.abort()
        while any(writer in self._writers for writer in writers):
            await asyncio.sleep(0)

    def mute(self) -> None:
        """What is connected now stays so and is never heard again, as if the other side's power had been cut."""
        self._mute |= self._writers

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected_at.append(time.monotonic())
        task = asyncio.create_task(self._forward(reader, writer))
        self._forwarding.add(task)
        task.add_done_callback(self._forwarding.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._inner_port)
        except (OSError, asyncio.CancelledError) as error:
            writer.close()
            if isinstance(error, OSError):
                return
            raise
        self._writers |= {writer, inner_writer}
        try:
            await asyncio.gather(
                self._pass_on(reader, inner_writer, from_client=True), self._pass_on(inner_reader, writer)
            )
        finally:
            for each in (writer, inner_writer):
                each.close()
                with contextlib.suppress(OSError):
                    await each.wait_closed()
                self._writers.discard(each)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if from_client:
                    self.bytes_at.append(time.monotonic())
                if not (self._is_silent() or writer in self._mute):
                    writer.write(chunk)
                    await writer.drain()
        writer.close()
