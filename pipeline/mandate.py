"""Which process does what only one may do, such as telling windows. One holds a lease, the others stand by.

A lease alone is not enough: a process that slept through its end may wake up believing that it still has it. So whoever
takes over raises the checkpoint's revision, and before something is told its teller looks whether the revision is still
its own.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Protocol

from pipeline import logs
from pipeline.errors import Retryable
from pipeline.service import wait_for
from pipeline.store.protocol import Checkpoint, Checkpoints, Leases
from schemas.ids import new_ulid

log = logs.get_logger()


class MandateStore(Leases, Checkpoints, Protocol):
    """Where mandates are recorded."""


class Overtaken(Exception):
    """Another process has taken over: what is in memory here is stale."""


class Mandate:
    """The right to do it, under one name."""

    def __init__(self, store: MandateStore, name: str, *, lease_s: float) -> None:
        self._store = store
        self._name = name
        self._lease_s = lease_s
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{new_ulid()}"
        self._revision = 0

    async def wait(self, stop: asyncio.Event) -> bool:
        """Stand by until nobody else has it; False when `stop` is set before."""
        told = False
        while not stop.is_set():
            try:
                if await self._acquire():
                    return True
            except Retryable as error:
                log.warning("store_unavailable", reason=str(error))
            else:
                if not told:
                    log.info("standing_by")
                    told = True
            await wait_for(stop, self._lease_s / 5)
        return False

    async def take_over(self) -> bytes:
        """Shut out whoever was at it before; return what was saved last (empty: nothing). Raises `Overtaken`."""
        saved = await self._store.checkpoint(self._name) or Checkpoint(0, b"")
        self._revision = saved.revision
        await self.save(saved.content)
        return saved.content

    async def save(self, content: bytes) -> None:
        """Replace what is saved. Raises `Overtaken`."""
        checkpoint = Checkpoint(self._revision + 1, content)
        if not await self._store.save_checkpoint(self._name, checkpoint, owner=self._owner):
            raise Overtaken
        self._revision = checkpoint.revision

    async def renew(self) -> None:
        """Keep the others waiting. Raises `Overtaken` when they have waited long enough."""
        if not await self._acquire():
            raise Overtaken

    async def confirm(self) -> None:
        """Return if nobody else has been at it since we took over. Raises `Overtaken`."""
        saved = await self._store.checkpoint(self._name)
        if saved is None or saved.revision != self._revision:
            raise Overtaken

    async def release(self) -> None:
        """Let another take over at once, if the database can be reached."""
        try:
            await self._store.release(self._name, self._owner)
        except Retryable as error:
            log.warning("lease_not_released", reason=str(error))

    async def _acquire(self) -> bool:
        return await self._store.acquire(self._name, self._owner, seconds=self._lease_s)
