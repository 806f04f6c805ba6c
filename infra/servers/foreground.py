"""A server run by hand: until Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol, TypeVar

from infra.servers.errors import ServerFailed, ServerUnavailable

_LOOK_EVERY_S: Final = 1.0


class Running(Protocol):
    """A server that knows whether its process lives."""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        ...


Server = TypeVar("Server", bound=Running)


def run_until_interrupted(
    start: Callable[[], AbstractContextManager[Server]], describe: Callable[[Server], Sequence[str]]
) -> None:
    """Start a server, print what `describe` says of it, and stop it when told to. Exits when it ends by itself."""
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    try:
        with start() as server:
            sys.stdout.write("".join(f"{line}\n" for line in describe(server)))
            sys.stdout.flush()
            while not interrupted.wait(_LOOK_EVERY_S):
                if not server.running:
                    sys.exit("the server has ended by itself, or was killed: its log says more")
    except (ServerUnavailable, ServerFailed) as error:
        sys.exit(str(error))
