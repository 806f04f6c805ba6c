"""Google's fake Pub/Sub server for tests (`cloud.google.com/go/pubsub/v2/pstest`), built from the few lines beside this.

`python -m infra.servers.pubsub` runs one until Ctrl-C. It checks no credentials and keeps everything in memory: what a
restart finds is empty. Where it differs from the real thing:

- Of an ordered subscription it hands out one message of a key at a time: the next one ten milliseconds or so after the
  acknowledgement of the one before. Pub/Sub hands out many, in order.
- Of a subscription without order it hands out messages in any order at all.
- A message that nobody took for ten minutes is gone, whatever retention was asked for. Retention of acknowledged messages,
  expiration of idle subscriptions and retry policies (back-off between deliveries) are stored and not acted upon.
- Seeking forward works. Seeking back over messages that were published crashes it. There are no snapshots.
- Exactly-once delivery is not enforced; quotas and limits of size, rate and number do not exist.
- There are neither permissions nor regions, and no metrics such as the number of undelivered messages.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final, Self

from infra.servers.child import HOST, Child, free_ports
from infra.servers.go_program import check_go_program, go_program

_PROGRAM: Final = "pstest"
_SOURCES: Final = Path(__file__).parent
_START_S: Final = 120
_LOOK_S: Final = 2


def program() -> Path:
    """The server's program, built when it is not there. Raises `ServerUnavailable` when it cannot be."""
    return go_program(_PROGRAM, _SOURCES)


class PubsubServer:
    """A running fake server. Use as a context manager, or call `stop`."""

    def __init__(self, program: Path, log: Path, port: int) -> None:
        self._command = (program, str(port))
        self._log = log
        self._port = port
        self._child: Child | None = None

    @classmethod
    def start(cls, folder: Path, *, port: int | None = None) -> Self:
        """Start a server with its log in `folder` and wait until it answers. Without `port`, it takes a free one.

        Raises `ServerUnavailable` when it cannot be built, `ServerFailed` when it does not start.
        """
        folder.mkdir(parents=True, exist_ok=True)
        server = cls(program(), folder / "server.log", port or free_ports(1)[0])
        server.restart()
        return server

    @property
    def address(self) -> str:
        """`host:port`, for the variable `PUBSUB_EMULATOR_HOST`."""
        return f"{HOST}:{self._port}"

    @property
    def running(self) -> bool:
        """Whether its process has not ended; paused counts as running."""
        return self._child is not None and self._child.running

    def kill(self) -> None:
        """End it at once (SIGKILL): topics, subscriptions and messages are gone."""
        if self._child is not None:
            self._child.kill()

    stop = kill  # there is nothing that it could put in order

    def restart(self) -> None:
        """Start again on the same port, empty; ends it first if it is running."""
        self.kill()
        self._child = Child(self._command, self._log)
        try:
            self._child.await_ready(self._listens, "The fake Pub/Sub server", _START_S)
        except BaseException:
            self._child.kill()
            raise

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nothing answers."""
        if self._child is not None:
            self._child.pause()

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        if self._child is not None:
            self._child.resume()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _listens(self) -> bool:
        try:
            with socket.create_connection((HOST, self._port), _LOOK_S):
                return True
        except OSError:
            return False


def check_programs() -> None:
    """Raises `ServerUnavailable` when the server is not built yet and there is no Go to build it with."""
    check_go_program(_PROGRAM, _SOURCES)
