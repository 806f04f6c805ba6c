"""Becomes the server named in its arguments, after leaving a watcher behind that kills it when the lifeline ends.

The lifeline is a pipe whose other end only the starting process holds: the kernel closes it however that process ends.
Run as a script, in an interpreter of its own: `python lifeline.py DESCRIPTOR PROGRAM ARGUMENT…`.
"""

from __future__ import annotations

import os
import signal
import sys


def watch(lifeline: int, server: int) -> None:
    """Wait for the end of the lifeline; then kill the server, if it is still the one that we are a child of."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.setsid()  # signals to the server's group are not for us
    os.read(lifeline, 1)
    if os.getppid() == server:
        os.kill(server, signal.SIGKILL)


def main() -> None:
    """Fork the watcher, become the server."""
    lifeline, program = int(sys.argv[1]), sys.argv[2:]
    server = os.getpid()
    if os.fork() == 0:
        watch(lifeline, server)
        os._exit(0)
    os.close(lifeline)
    os.execv(program[0], program)  # noqa: S606  # no shell is meant


if __name__ == "__main__":
    main()
