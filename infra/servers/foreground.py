"""A server run by hand: until Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from infra.servers.errors import ServerFailed, ServerUnavailable

Server = TypeVar("Server")


def run_until_interrupted(
    start: Callable[[], AbstractContextManager[Server]], describe: Callable[[Server], Sequence[str]]
) -> None:
    """Start a server, print what `describe` says of it, and stop it when told to."""
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    try:
        with start() as server:
            sys.stdout.write("".join(f"{line}\n" for line in describe(server)))
            sys.stdout.flush()
            interrupted.wait()
    except (ServerUnavailable, ServerFailed) as error:
        sys.exit(str(error))
