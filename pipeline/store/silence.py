"""Ends connections whose server has fallen silent.

libpq waits for an answer for as long as TCP believes in the connection. A server that hangs, or a load balancer that
acknowledges what it passes to nobody, would hold a thread and what it is doing for ever.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from math import inf
from typing import Any, Final

_LONGEST_TICK_S: Final = 1.0
_TICKS_PER_LIMIT: Final = 8


class Watch:
    """Of one connection: a context manager around whatever waits for the server's answer."""

    def __init__(self, connection: Any, limit_s: float) -> None:
        # A descriptor of our own: libpq closes its one when it likes, and the number then belongs to somebody else.
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._limit_s = limit_s
        self._until = inf
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._until = time.monotonic() + self._limit_s

    def __exit__(self, *_: object) -> None:
        self._until = inf

    def look(self, now: float) -> None:
        """End the connection if the answer is overdue: who waits for it then sees the connection lost."""
        with self._lock:
            if now > self._until:
                with contextlib.suppress(OSError):  # it has ended by itself
                    self._socket.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Let go of the connection."""
        with self._lock:
            self._until = inf
            self._socket.close()


class SilenceWatch:
    """Watches connections from a thread of its own."""

    def __init__(self, limit_s: float) -> None:
        """`limit_s`: how long an answer may take."""
        self._limit_s = limit_s
        self._watches: dict[Any, Watch] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, connection: Any) -> Watch:
        """Watch a connection until `end`."""
        watch = Watch(connection, self._limit_s)
        with self._lock:
            self._watches[connection] = watch
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="store-silence", daemon=True)
                self._thread.start()
        return watch

    def end(self, connection: Any) -> None:
        """Forget a connection; harmless when repeated."""
        with self._lock:
            watch = self._watches.pop(connection, None)
        if watch is not None:
            watch.end()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        tick_s = min(_LONGEST_TICK_S, self._limit_s / _TICKS_PER_LIMIT)
        while not self._stopping.wait(tick_s):
            with self._lock:
                watches = list(self._watches.values())
            now = time.monotonic()
            for watch in watches:
                watch.look(now)
