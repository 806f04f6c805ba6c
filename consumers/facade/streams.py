"""Who watches what: brings the fleet's changes to every open stream, and lets streams resume where they broke off."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from aiohttp import web

from consumers.facade.fleet import Change, Fleet, Snapshot
from consumers.facade.readers import Readers
from consumers.facade.settings import FacadeSettings
from consumers.facade.sse import (
    HEARTBEAT,
    Block,
    Reader,
    StreamKind,
    TooSlow,
    end_stream,
    message,
    told,
    told_to_fleet,
    told_to_watcher,
)

_BLOCK_BYTES: Final = 1 << 17
_SLICE: Final = 100
"""Readers written to before others get a turn."""
_LOOK_EVERY_S: Final = 1.0
"""How soon a client that went away without reading is noticed."""
_number = re.compile(r"[0-9]{1,18}")


class Streams:
    """All open streams."""

    def __init__(self, fleet: Fleet, settings: FacadeSettings) -> None:
        self._fleet = fleet
        self._settings = settings
        self._boot_id = fleet.boot_id.encode()
        self._snapshot_id = b"%b-snapshot" % self._boot_id
        """Of messages before `synced`: resuming there would miss machines, so everything is sent again."""
        self._readers = Readers(settings, most=settings.max_streams)
        self._live: set[Reader] = set()
        self._watchers: dict[str, set[Reader]] = {}
        self._sent = fleet.position
        """Up to where in the log the live readers of all machines have been told."""
        self._news = asyncio.Event()
        fleet.listen(self._on_changes)

    # --- serving one client --------------------------------------------------------------------------------------------
    async def watch_fleet(self, request: web.Request, last_event_id: str) -> web.StreamResponse:
        """Tell the client of all machines until it goes."""
        response = await self._open(request)
        with self._reader(request, StreamKind.FLEET) as reader:
            position = self._position_of(last_event_id)
            if position is None:
                position = await self._tell_everything(reader)
            while not self._readers.closing:
                await self._catch_up(reader, position)
                if self._readers.closing:
                    break
                self._live.add(reader)
                await reader.live()
                position = reader.position
                if reader.gone:
                    break
        await end_stream(response)
        return response

    async def watch_machine(
        self, request: web.Request, machine_id: str, kind: StreamKind, last_event_id: str
    ) -> web.StreamResponse:
        """Tell the client of one machine, which need not exist yet, until it goes."""
        response = await self._open(request)
        with self._reader(request, kind) as reader:
            messages = self._beginning(machine_id, kind, last_event_id)
            while not self._readers.closing:
                watchers = self._watchers.setdefault(machine_id, set())
                watchers.add(reader)  # first: nothing may come between the state that is told and the changes
                if messages:
                    reader.put(Block(messages))
                try:
                    await reader.live()
                finally:
                    self._forget_watcher(machine_id, reader)
                if reader.gone or self._readers.closing:
                    break
                await reader.drained()
                messages = self._state_of(machine_id, kind)
        await end_stream(response)
        return response

    async def _open(self, request: web.Request) -> web.StreamResponse:
        return await self._readers.open(request, self._fleet.loaded, "the machines have not been loaded yet")

    @contextmanager
    def _reader(self, request: web.Request, kind: StreamKind) -> Iterator[Reader]:
        with self._readers.serving(request, kind) as reader:
            try:
                yield reader
            finally:
                self._live.discard(reader)

    # --- all machines --------------------------------------------------------------------------------------------------
    def _position_of(self, last_event_id: str) -> int | None:
        """Where to resume; None: everything must be told."""
        boot_id, _, number = last_event_id.rpartition("-")
        if boot_id != self._fleet.boot_id or not _number.fullmatch(number):
            return None
        position = int(number)
        return None if self._fleet.since(position, 0) is None or position > self._sent else position

    async def _tell_everything(self, reader: Reader) -> int:
        position = self._sent
        machines = self._fleet.machines()
        await reader.send(message(b"{}", event=b"reset", event_id=self._snapshot_id))
        for messages in self._blocks(machines):
            if self._readers.closing:
                return position
            await reader.send(messages)
        synced_id = b"%b-%d" % (self._boot_id, position)
        await reader.send(message(b'{"machines":%d}' % len(machines), event=b"synced", event_id=synced_id))
        return position

    def _blocks(self, machines: Iterable[Snapshot]) -> Iterator[bytes]:
        parts: list[bytes] = []
        size = 0
        for machine in machines:
            parts.append(told(machine, self._snapshot_id))
            size += len(parts[-1])
            if size >= _BLOCK_BYTES:
                yield b"".join(parts)
                parts.clear()
                size = 0
        yield b"".join(parts)

    async def _catch_up(self, reader: Reader, position: int) -> None:
        """Bring the reader from `position` to where the live ones are; nothing happens between that and the return."""
        await reader.drained()
        while position < self._sent and not self._readers.closing:
            changes = self._fleet.since(position, _BLOCK_BYTES)
            if changes is None:
                raise TooSlow
            changes = [change for change in changes if change.position <= self._sent]
            position = changes[-1].position
            await reader.send(b"".join([told_to_fleet(change, self._boot_id) for change in changes]))

    # --- one machine ---------------------------------------------------------------------------------------------------
    def _beginning(self, machine_id: str, kind: StreamKind, last_event_id: str) -> bytes:
        snapshot = self._fleet.get(machine_id)
        known = int(last_event_id) if _number.fullmatch(last_event_id) else None
        if snapshot is not None and known is not None and known <= snapshot.version:
            return b"" if known == snapshot.version else told_to_watcher(snapshot, kind)
        state = b"" if snapshot is None else told_to_watcher(snapshot, kind)
        if kind is StreamKind.LEGACY:
            return state
        version = b"0" if snapshot is None else b"%d" % snapshot.version
        reset = message(b"{}", event=b"reset", event_id=b"0")
        count = b'{"machines":%d}' % (snapshot is not None)
        return reset + state + message(count, event=b"synced", event_id=version)

    def _state_of(self, machine_id: str, kind: StreamKind) -> bytes:
        snapshot = self._fleet.get(machine_id)
        return self._beginning(machine_id, kind, "") if snapshot is None else told_to_watcher(snapshot, kind)

    def _forget_watcher(self, machine_id: str, reader: Reader) -> None:
        watchers = self._watchers.get(machine_id, set())
        watchers.discard(reader)
        if not watchers:
            self._watchers.pop(machine_id, None)

    # --- what happens --------------------------------------------------------------------------------------------------
    def _on_changes(self, changes: Sequence[Change]) -> None:
        for change in changes:
            watchers = self._watchers.get(change.machine.id)
            if watchers:
                _tell(watchers, change.machine)
        self._news.set()

    async def run(self) -> None:
        """Bring news to the streams until they are closed."""
        looked_at = beat_at = time.monotonic()
        while not self._readers.closing:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _LOOK_EVERY_S)
            self._news.clear()
            await self._bring_news()
            now = time.monotonic()
            if now - looked_at >= _LOOK_EVERY_S:
                looked_at = now
                self._let_go_of_the_gone()
            if now - beat_at >= self._settings.heartbeat.total_seconds():
                beat_at = now
                self._beat()

    async def _bring_news(self) -> None:
        while self._sent < self._fleet.position:
            changes = self._fleet.since(self._sent, _BLOCK_BYTES) if self._live else None
            before = self._sent
            if not changes:  # nobody listens, or we are too far behind: then the readers must come again
                self._sent = self._fleet.position
                for reader in list(self._live):
                    self._take_off(reader, before)
                return
            self._sent = changes[-1].position
            block = Block(b"".join([told_to_fleet(change, self._boot_id) for change in changes]))
            for number, reader in enumerate(list(self._live), 1):
                if not reader.put(block):
                    self._take_off(reader, before)
                if number % _SLICE == 0:
                    await asyncio.sleep(0)

    def _take_off(self, reader: Reader, position: int) -> None:
        self._live.discard(reader)
        reader.position = position
        reader.take_off()

    def _let_go_of_the_gone(self) -> None:
        for reader in self._readers.gone():
            self._take_off(reader, self._sent)

    def _beat(self) -> None:
        watchers = (reader for readers in self._watchers.values() for reader in readers)
        for reader in [*self._live, *watchers]:
            reader.put(HEARTBEAT)

    def close(self) -> None:
        """End all streams. Readers that lag too far are cut off, the others get a proper end."""
        self._readers.closing = True
        self._news.set()
        for reader in self._readers.all():
            if reader.lags:
                reader.cut_off()
            self._take_off(reader, self._sent)


def _tell(watchers: Iterable[Reader], machine: Snapshot) -> None:
    blocks: dict[StreamKind, Block | None] = {}
    for reader in list(watchers):
        if reader.kind not in blocks:
            messages = told_to_watcher(machine, reader.kind)
            blocks[reader.kind] = Block(messages) if messages else None
        block = blocks[reader.kind]
        if block is not None and not reader.put(block):
            reader.take_off()
