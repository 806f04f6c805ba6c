"""The folder in which a monitor keeps what must outlive it. One monitor at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pipeline.errors import Misconfigured

if sys.platform != "win32":
    import fcntl

_LOCK: Final = "lock"


class StateFolder:
    """Where things are in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start_time = folder / "start_time"
        self.description = folder / "description.json"
        self.spool = folder / "spool"

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Make the folder and keep other monitors out of it. Raises `Misconfigured` if either cannot be done."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Misconfigured(
                f"the state folder {self.folder} cannot be used ({error.strerror}): choose another --state-dir"
            ) from error
        try:
            self._lock(handle)
            yield
        finally:
            os.close(handle)

    def _lock(self, handle: int) -> None:
        """Nothing on Windows: there a service manager starts one monitor, and nobody a second."""
        if sys.platform != "win32":
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Misconfigured(
                    f"another monitor is using the state folder {self.folder}: "
                    "stop it, or choose another --state-dir"
                ) from error
