"""Which process this is: the same after a restart, so that it need not wait for the end of its own lease; and one for a directory."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from consumers.powercycle_agent.locks import ControllerBusy, Locks
from pipeline import logs
from pipeline.service import wait_for
from schemas.ids import new_ulid

log = logs.get_logger()

_FILE: Final = "instance"
_LENGTH: Final = 26
_LOCK: Final = "agent"
_LOOK_EVERY_S: Final = 0.2
_TELL_EVERY: Final = 300


def owner_of(state_dir: Path) -> str:
    """A name for the lease: host, and a random part that is kept in the directory."""
    path = state_dir / _FILE
    try:
        kept = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        kept = ""
    if len(kept) != _LENGTH or not kept.isalnum():
        kept = _keep(path, new_ulid())
    return f"{socket.gethostname()}:{kept}"


def _keep(path: Path, name: str) -> str:
    unfinished = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(name, encoding="ascii")
        unfinished.rename(path)
    except OSError as error:
        log.warning("instance_not_kept", file=str(path), reason=str(error))
    return name


@asynccontextmanager
async def alone_in(state_dir: Path, locks: Locks, stop: asyncio.Event) -> AsyncIterator[bool]:
    """Wait until no other agent uses the directory. False: asked to stop meanwhile."""
    tries = 0
    while True:
        try:
            async with locks.hold(_LOCK):
                yield True
                return
        except ControllerBusy:
            if tries % _TELL_EVERY == 0:
                log.warning(
                    "another_agent_here",
                    state_dir=str(state_dir),
                    pid=os.getpid(),
                    note="standing by; an agent for other controllers needs a --state-dir of its own",
                )
        tries += 1
        if await wait_for(stop, _LOOK_EVERY_S):
            yield False
            return
