"""A server's process: started so that it never outlives ours, stopped, killed, paused."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from infra.servers import lifeline
from infra.servers.errors import ServerFailed

HOST: Final = "127.0.0.1"
_LOOK_EVERY_S: Final = 0.02
_STACK_FRAME: Final = re.compile(r"\s+(at \S+\(|\.\.\. \d+ more)")  # Java's
_PORTS: Final = range(15000, 32000)


class Child:
    """A running server process. It ends with this process, however this one ends."""

    def __init__(
        self, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._log = log
        reading_end, self._writing_end = os.pipe()
        try:
            with log.open("ab") as said:
                self._spoken_from = said.tell()
                self._process = subprocess.Popen(  # noqa: S603  # our own programs, no shell
                    [sys.executable, "-I", "-S", lifeline.__file__, str(reading_end), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    start_new_session=True,  # Ctrl-C is for us, who then stop it in order
                    pass_fds=(reading_end,),
                    env=environment,
                )
        except BaseException:
            os.close(self._writing_end)
            raise
        finally:
            os.close(reading_end)

    @property
    def pid(self) -> int:
        """Of the server itself."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended; paused counts as running."""
        return self._process.poll() is None

    def await_ready(self, ready: Callable[[], bool], what: str, within_s: float) -> None:
        """Return once `ready` says so. Raises `ServerFailed`, with the end of the log, if the process ends before."""
        deadline = time.monotonic() + within_s
        while not ready():
            if not self.running:
                raise ServerFailed(
                    f"{what} did not start; its log {self._log} ends with: {self._last_words()}"
                )
            if time.monotonic() > deadline:
                raise ServerFailed(f"{what} does not answer after {within_s:.0f} s: {self._last_words()}")
            time.sleep(_LOOK_EVERY_S)

    def stop(self, within_s: float) -> None:
        """Ask it to end; after `within_s` seconds, kill it."""
        self.resume()
        self._process.terminate()
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once, as a power cut would. Does nothing to one that has ended."""
        self._process.kill()
        self._process.wait()
        if self._writing_end >= 0:
            os.close(self._writing_end)
            self._writing_end = -1

    def pause(self) -> None:
        """Let it do nothing until `resume`, as an overloaded host would; its connections stay open."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End a pause."""
        self._process.send_signal(signal.SIGCONT)

    def _last_words(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._spoken_from)
            lines = log.read().decode(errors="replace").splitlines()
        said = [line.strip()[:300] for line in lines if line.strip() and not _STACK_FRAME.match(line)]
        return " | ".join(said[-5:]) or "(nothing)"


def free_ports(count: int) -> Sequence[int]:
    """Ports of this host that nobody listens on.

    None of them is of the range from which outgoing connections take theirs: a server that is down for a while must
    find its port free when it comes back.
    """
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            break
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
    return found
