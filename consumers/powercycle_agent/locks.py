"""One process at a time drives a controller: locks that the agent and the `powercycle` command of this host share.

The kernel keeps them (`flock`) and frees them when their process ends, however it ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from consumers.powercycle_agent.sharing import make_directory, share
from pipeline.errors import LabkeeperError, Misconfigured

_LOOK_EVERY_S: Final = 0.05
"""While somebody else has it. The kernel tells nobody when a lock is freed, unless they wait in a thread for ever."""
_LONGEST_NAME: Final = 150


class ControllerBusy(LabkeeperError):
    """Another process drives the controller."""


class Locks:
    """The directory with one file for each controller."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @asynccontextmanager
    async def hold(self, name: str, *, patience_s: float = 0.0) -> AsyncIterator[None]:
        """Be the only one who drives the controller of that name. Raises `ControllerBusy` after so many seconds in vain."""
        deadline = time.monotonic() + patience_s
        with self._opened(name) as descriptor:
            while not _taken(descriptor):
                if time.monotonic() >= deadline:
                    raise ControllerBusy(f"another process on this host drives {name}{_who(descriptor)}")
                await asyncio.sleep(_LOOK_EVERY_S)
            _sign(descriptor)
            yield

    @contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        path = self._directory / _file_name(name)
        try:
            make_directory(self._directory)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            share(descriptor, self._directory)
        except OSError as error:
            raise Misconfigured(
                f"the lock {path} cannot be opened ({error.strerror}): let this user write there, or give another --state-dir"
            ) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise Misconfigured(
            f"the file system of the state directory keeps no locks ({error.strerror}): give another --state-dir"
        ) from error
    return True


def _sign(descriptor: int) -> None:
    with suppress(OSError):  # a full disk
        os.pwrite(descriptor, b"%-20d" % os.getpid(), 0)


def _who(descriptor: int) -> str:
    holder = os.pread(descriptor, 20, 0).strip()
    return f" (process {holder.decode()})" if holder.isdigit() else ""


def _file_name(name: str) -> str:
    quoted = quote(name, safe="")
    if len(quoted) > _LONGEST_NAME:
        quoted = f"{quoted[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return f"{quoted}.lock"
