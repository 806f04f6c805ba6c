"""Keeps the belief fresh without a façade: reads what the broker tells of this machine, and skips all other machines.

A monitor that has never heard of its machine reads all that the topic keeps before it interrogates, for an event without
the right device part says "the device is gone". Later runs begin with what the last one believed and read only what is new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from pydantic import ValidationError

from pipeline import logs
from pipeline.broker.protocol import Broker, From, Received
from pipeline.clock import Clock
from pipeline.errors import Retryable
from pipeline.metrics import MONITOR_DESCRIPTION_ARRIVALS
from pipeline.retry import Backoff
from producers.machine_monitor.belief import Belief
from producers.machine_monitor.sinks.broker import OpenBroker
from schemas.changes import MachineChange
from schemas.description import Description
from schemas.envelope import ROW_VERSION
from schemas.topics import MACHINE_CHANGES
from schemas.wire import explain

_PAGE: Final = 500


class ChangeWatch:
    """Watches one machine on `machine.changes`. Failures are logged and leave the belief as it is."""

    def __init__(
        self,
        open_broker: OpenBroker,
        belief: Belief,
        machine_id: str,
        *,
        clock: Clock,
        backoff: Callable[[], Backoff] = lambda: Backoff(first_s=1, cap_s=30),
    ) -> None:
        self._open_broker = open_broker
        self._belief = belief
        self._machine_id = machine_id
        self._clock = clock
        self._backoff = backoff

    async def learn(self) -> None:
        """Believe what an earlier run did, or else what the topic keeps. Raises `Retryable` while the broker is away."""
        if self._belief.current is None and not self._belief.restore():
            async with self._open_broker() as broker:
                await self._catch_up(broker)

    async def run(self) -> None:
        """Learn, then follow the changes for ever; also while the broker comes and goes."""
        backoff = self._backoff()
        if self._belief.current is None:
            self._belief.restore()
        while True:
            try:
                await self._follow(backoff)
            except Retryable as error:
                logs.get_logger().warning("changes are not read", reason=str(error))
            await asyncio.sleep(backoff.next())

    async def _follow(self, backoff: Backoff) -> None:
        """The subscription begins before the topic is read, so nothing falls between the two."""
        async with (
            self._open_broker() as broker,
            broker.subscribe(MACHINE_CHANGES, group=None, start=From.LATEST) as changes,
        ):
            if self._belief.current is None:
                await self._catch_up(broker)
            backoff.reset()
            async for batch in changes:
                newest = self._newest(batch.messages, self._belief.current)
                if newest is not None:
                    self._accept(newest)

    async def _catch_up(self, broker: Broker) -> None:
        """Read all that the topic keeps. A machine that it does not tell of is a new one."""
        newest: Description | None = None
        after: dict[int, int] = {}
        while page := await broker.fetch(MACHINE_CHANGES, after=after, limit=_PAGE):
            after.update((message.partition, message.offset) for message in page)
            newest = self._newest(page, newest) or newest
        if newest is None:
            self._belief.replace(Description.new(self._machine_id, now=self._clock.now()))
        else:
            self._accept(newest)

    def _newest(self, messages: Iterable[Received], known: Description | None) -> Description | None:
        """The newest state of our machine that is newer than `known`; None when none is."""
        newest: Description | None = None
        version = -1 if known is None else known.row_version
        for message in messages:
            if message.key != self._machine_id:
                continue
            told = self._read(message)
            if told is not None and told.row_version > version:
                newest, version = told, told.row_version
        return newest

    def _read(self, message: Received) -> Description | None:
        """None, with a line in the log, for what is no change."""
        if not message.value:
            return self._deleted(message.headers.get(ROW_VERSION, ""))
        try:
            change = MachineChange.model_validate_json(message.value)
        except ValidationError as error:
            logs.get_logger().warning("change is unreadable", reason=explain(error))
            return None
        return change.description.model_copy(update={"row_version": change.version})

    def _deleted(self, version: str) -> Description | None:
        """A new machine, with the deletion's version: what was told before must not bring the old one back."""
        if not version.isascii() or not version.isdecimal() or len(version) > 18:
            logs.get_logger().warning("change is unreadable", reason="a deletion without a version")
            return None
        fresh = Description.new(self._machine_id, now=self._clock.now())
        return fresh.model_copy(update={"row_version": int(version)})

    def _accept(self, description: Description) -> None:
        MONITOR_DESCRIPTION_ARRIVALS.labels(self._machine_id).inc()
        self._belief.replace(description)
