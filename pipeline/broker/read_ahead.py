"""Reads one batch ahead of whoever works on the one before, for brokers that are asked for batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

from pipeline import logs
from pipeline.broker.protocol import Batch, Received
from pipeline.errors import BrokerUnavailable
from pipeline.retry import Backoff

Chunk = TypeVar("Chunk")

_LONGEST_PAUSE_S: Final = 2.0


class ReadAhead(Generic[Chunk]):
    """The batches of one subscription. Faults of the broker are ridden out; other errors reach whoever asks for a batch."""

    def __init__(
        self,
        topic: str,
        *,
        keep: Callable[[], Coroutine[Any, Any, None]],
        fetch: Callable[[], Awaitable[list[Chunk]]],
        hand_out: Callable[[list[Chunk]], list[Received]],
    ) -> None:
        """`keep` runs beside the reading, for ever. `fetch` waits for messages, and may come back without any.

        `hand_out` tells which of the messages are still ours when the batch is asked for.
        """
        self._topic = topic
        self._keep = keep
        self._fetch = fetch
        self._hand_out = hand_out
        self._ahead: list[Chunk] = []
        self._has_ahead = asyncio.Event()
        self._wants_more = asyncio.Event()
        self._wants_more.set()
        self._work: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read."""
        self._work = asyncio.create_task(self._serve())
        self._work.add_done_callback(lambda _: self._has_ahead.set())

    async def stop(self) -> None:
        """Stop reading: `batch` then ends the iteration. Harmless when repeated."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])

    async def batch(self) -> Batch:
        """The next batch. Can be cancelled, and asked again, without losing anything. Raises StopAsyncIteration at the end."""
        while True:
            await self._has_ahead.wait()
            if self._work is None or self._work.done():
                break
            chunks, self._ahead = self._ahead, []
            self._has_ahead.clear()
            self._wants_more.set()
            messages = self._hand_out(chunks)
            if messages:
                return Batch(messages)
        if self._work is not None and not self._work.cancelled():
            self._work.result()
        raise StopAsyncIteration

    async def _serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep())
                tasks.create_task(self._read())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group.exceptions[0].__cause__

    async def _read(self) -> None:
        backoff = Backoff(cap_s=_LONGEST_PAUSE_S)
        while True:
            await self._wants_more.wait()
            try:
                self._ahead = await self._fetch()
            except BrokerUnavailable as error:
                logs.get_logger().warning("broker_read_failed", topic=self._topic, reason=str(error))
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            if self._ahead:
                self._wants_more.clear()
                self._has_ahead.set()
