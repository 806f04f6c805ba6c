"""`GET /api/v1/power/watch`: power commands for agents that cannot reach the broker, as they come.

A stream tells of what is published from its beginning on, and cannot be resumed: after each (re)connection an agent asks
for what is pending, which is short, and so misses nothing. For the same reason a reader that lags is cut off at once, with
no log to catch up from.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

from aiohttp import web
from pydantic import ValidationError

from consumers.facade.answers import json_of
from consumers.facade.audit import LONGEST_LOGGED
from consumers.facade.readers import Readers
from consumers.facade.settings import FacadeSettings
from consumers.facade.sse import HEARTBEAT, Block, Reader, StreamKind, TooSlow, end_stream, message
from pipeline import logs
from pipeline.broker.protocol import Broker, From, Received, Subscription
from pipeline.broker.reading import until_stopped
from pipeline.service import Abandoned, persist, together, wait_for
from schemas.power import PowerCommand
from schemas.topics import POWER_COMMANDS
from schemas.wire import explain

_WAIT_FOR_MORE: Final = timedelta(milliseconds=1)
_LOOK_EVERY_S: Final = 1.0
"""How soon a client that went away without reading is noticed."""

log = logs.get_logger()


class PowerWatch:
    """All open streams of power commands."""

    def __init__(self, settings: FacadeSettings) -> None:
        self._heartbeat_s = settings.heartbeat.total_seconds()
        self._readers = Readers(settings, most=settings.max_power_streams)
        self._listening = asyncio.Event()
        self._lagging: set[Reader] = set()

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """Tell the client of all commands until it goes."""
        response = await self._readers.open(
            request, self._listening, "the broker is out of reach, so that no command would be heard of"
        )
        with self._readers.serving(request, StreamKind.POWER) as reader:
            if not self._readers.closing:
                await reader.live()
            if reader in self._lagging:
                self._lagging.discard(reader)
                raise TooSlow
        await end_stream(response)
        return response

    async def run(self, broker: Broker, stop: asyncio.Event) -> None:
        """Read the commands until `stop` is set. Waits for a broker that is away."""
        await together(self._follow(broker, stop), self._attend(stop))

    async def _follow(self, broker: Broker, stop: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:

            async def subscribe() -> Subscription:
                commands = broker.subscribe(
                    POWER_COMMANDS, group=None, start=From.LATEST, max_wait=_WAIT_FOR_MORE
                )
                return await stack.enter_async_context(commands)

            try:
                reader = await persist(subscribe, "broker_unavailable", stop)
            except Abandoned:
                return
            self._listening.set()
            async for batch in until_stopped(reader, stop):
                messages = b"".join(map(_told, batch.messages))
                if messages:
                    self._tell(Block(messages))

    async def _attend(self, stop: asyncio.Event) -> None:
        """Keep the streams awake, and notice who has gone."""
        beat_at = time.monotonic()
        while not await wait_for(stop, min(_LOOK_EVERY_S, self._heartbeat_s)):
            for reader in self._readers.gone():
                reader.take_off()
            if time.monotonic() - beat_at >= self._heartbeat_s:
                beat_at = time.monotonic()
                self._tell(HEARTBEAT)

    def _tell(self, block: Block) -> None:
        for reader in self._readers.all():
            if not reader.put(block):
                if not reader.gone:
                    self._lagging.add(reader)
                reader.take_off()

    def close(self) -> None:
        """End all streams."""
        self._readers.closing = True
        for reader in self._readers.all():
            if reader.lags:
                reader.cut_off()
            reader.take_off()


def _told(received: Received) -> bytes:
    """The command as a message of the stream; nothing, with a line in the log, when it is none."""
    try:
        command = PowerCommand.model_validate_json(received.value)
    except ValidationError as error:
        log.warning("command_not_read", machine=received.key[:LONGEST_LOGGED], reason=explain(error))
        return b""
    return message(json_of(command), event=b"command", event_id=command.id.encode())
