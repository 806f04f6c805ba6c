"""Sends what waits in the spool, oldest first. A failed send is never fatal: back off, and try the same event again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final

from pipeline import logs
from pipeline.errors import Rejected, Retryable
from pipeline.metrics import MONITOR_PARKED, MONITOR_SEND_FAILED, MONITOR_SENT, MONITOR_WAITING
from pipeline.retry import Backoff
from producers.machine_monitor.quarantine import QuarantineFile
from producers.machine_monitor.sinks.protocol import Sink
from producers.machine_monitor.spool import Spool, Waiting

_PARTING_S: Final = 2.0
"""How long the answer to an event under way is waited for at the end."""

Connect = Callable[[], AbstractAsyncContextManager[Sink]]
"""Connects to whoever takes events, for as long as the context lasts. Entering it raises `Retryable`."""


class Delivery:
    """The spool's one reader."""

    def __init__(
        self,
        spool: Spool,
        connect: Connect,
        quarantine: QuarantineFile,
        machine_id: str,
        *,
        backoff: Backoff | None = None,
    ) -> None:
        self._spool = spool
        self._connect = connect
        self._quarantine = quarantine
        self._machine_id = machine_id
        self._backoff = backoff or Backoff(first_s=1, cap_s=30)
        self._more = asyncio.Event()

    def notify(self) -> None:
        """Something new is in the spool."""
        self._more.set()

    async def run(self) -> None:
        """Send for ever."""
        while True:
            try:
                async with self._connect() as sink:
                    await self._serve(sink)
            except Retryable as error:
                await self._rest(error)

    async def empty(self) -> None:
        """Send all that waits, once. Raises `Retryable`."""
        async with self._connect() as sink:
            await self._send_all(sink)

    async def _serve(self, sink: Sink) -> None:
        while True:
            self._more.clear()
            try:
                await self._send_all(sink)
            except Retryable as error:
                await self._rest(error)
            else:
                await self._more.wait()

    async def _rest(self, error: Retryable) -> None:
        wait_s = self._backoff.next()
        logs.get_logger().warning(
            "event not sent", reason=str(error), waiting=len(self._spool), retry_in_s=round(wait_s, 1)
        )
        await asyncio.sleep(wait_s)

    async def _send_all(self, sink: Sink) -> None:
        while (waiting := await asyncio.to_thread(self._spool.oldest)) is not None:
            MONITOR_WAITING.labels(self._machine_id).set(len(self._spool))
            await self._send(sink, waiting)
            self._backoff.reset()
        MONITOR_WAITING.labels(self._machine_id).set(0)

    async def _send(self, sink: Sink, waiting: Waiting) -> None:
        """Send the event, or park it. Raises `Retryable`.

        When cancelled meanwhile, wait a little for the answer: it saves the next run from sending the event again.
        """
        attempt = asyncio.create_task(self._attempt(sink, waiting))
        try:
            await asyncio.shield(attempt)
        except asyncio.CancelledError:
            await asyncio.wait((attempt,), timeout=_PARTING_S)
            attempt.cancel()
            with suppress(asyncio.CancelledError, Retryable):
                await attempt
            raise

    async def _attempt(self, sink: Sink, waiting: Waiting) -> None:
        try:
            await sink.send(self._machine_id, waiting.body, waiting.headers)
        except Rejected as error:
            MONITOR_SEND_FAILED.labels(sink.kind).inc()
            MONITOR_PARKED.labels(self._machine_id).inc()
            await asyncio.to_thread(self._spool.park, waiting, str(error))
        except Retryable:
            MONITOR_SEND_FAILED.labels(sink.kind).inc()
            raise
        else:
            MONITOR_SENT.labels(sink.kind).inc()
            await asyncio.to_thread(self._settle, waiting)

    def _settle(self, waiting: Waiting) -> None:
        """The file goes first: after a crash in between, the event is sent again, the request is not made again."""
        self._quarantine.accepted(waiting.stamp)
        self._spool.remove(waiting)
