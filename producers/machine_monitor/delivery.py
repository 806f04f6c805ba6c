"""Sends what waits in the spool, oldest first. A failed send is never fatal: back off, and try the same event again."""

from __future__ import annotations

import asyncio

from pipeline import logs
from pipeline.errors import Rejected, Retryable
from pipeline.metrics import MONITOR_PARKED, MONITOR_SEND_FAILED, MONITOR_SENT, MONITOR_WAITING
from pipeline.retry import Backoff
from producers.machine_monitor.quarantine import QuarantineFile
from producers.machine_monitor.sinks.protocol import Sink
from producers.machine_monitor.spool import Spool, Waiting


class Delivery:
    """The spool's one reader."""

    def __init__(
        self,
        spool: Spool,
        sink: Sink,
        quarantine: QuarantineFile,
        machine_id: str,
        *,
        backoff: Backoff | None = None,
    ) -> None:
        self._spool = spool
        self._sink = sink
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
            self._more.clear()
            try:
                while await self.send_oldest():
                    self._backoff.reset()
            except Retryable as error:
                wait_s = self._backoff.next()
                logs.get_logger().warning(
                    "event not sent", reason=str(error), waiting=len(self._spool), retry_in_s=round(wait_s, 1)
                )
                await asyncio.sleep(wait_s)
            else:
                await self._more.wait()

    async def send_oldest(self) -> bool:
        """Send, or park, the event that has waited longest. False when none waits. Raises `Retryable`."""
        waiting = await asyncio.to_thread(self._spool.oldest)
        MONITOR_WAITING.labels(self._machine_id).set(len(self._spool))
        if waiting is None:
            return False
        try:
            await self._sink.send(self._machine_id, waiting.body, waiting.headers)
        except Rejected as error:
            MONITOR_SEND_FAILED.labels(self._sink.kind).inc()
            MONITOR_PARKED.labels(self._machine_id).inc()
            await asyncio.to_thread(self._spool.park, waiting, str(error))
        except Retryable:
            MONITOR_SEND_FAILED.labels(self._sink.kind).inc()
            raise
        else:
            MONITOR_SENT.labels(self._sink.kind).inc()
            await asyncio.to_thread(self._settle, waiting)
        return True

    def _settle(self, waiting: Waiting) -> None:
        """The file goes first: after a crash in between, the event is sent again, the request is not made again."""
        self._quarantine.accepted(waiting.stamp)
        self._spool.remove(waiting)
