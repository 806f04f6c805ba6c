"""The folder that a lab lives in and the port it answers on: fit, ours, and nobody else's. Every refusal is one sentence."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.command import CommandFailed, ExitCode

_LARGEST_LOG: Final = 5_000_000
_KEPT_LOGS: Final = 3
_PREDECESSOR_S: Final = 15.0
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Premises:
    """Where a lab keeps its things. Only whoever holds its lock touches them."""

    data: Path
    crashed_predecessor: bool
    """Whoever had the lock before did not let go of it in order: its processes may still be ending."""

    @property
    def database(self) -> Path:
        """Folder of the embedded PostgreSQL."""
        return self.data / "postgres"

    @property
    def monitor(self) -> Path:
        """Folder for what the monitor must not forget."""
        return self.data / "monitor"

    @property
    def demo_power(self) -> Path:
        """Which simulated machine hangs on which simulated power strip; the simulator writes it."""
        return self.data / "power" / "demo.json5"

    def prepare_demo_power(self) -> None:
        """Let its agent find an empty file until the simulator has written one: the strips of the run before are gone, and
        their port may be anybody's.
        """
        self.demo_power.parent.mkdir(exist_ok=True)
        self.demo_power.write_text("{}\n")

    @property
    def metrics_targets(self) -> Path:
        """The file that tells Prometheus where the roles' metrics are."""
        return self.data / "metrics-targets.json"

    def log_of(self, role: str) -> Path:
        """The file that a role writes its log to."""
        return self.data / "logs" / f"{role}.log"

    def fresh_log_of(self, role: str) -> Path:
        """The same, after a large one was put aside."""
        log = self.log_of(role)
        if log.exists() and log.stat().st_size > _LARGEST_LOG:
            for age in range(_KEPT_LOGS - 1, 0, -1):
                older = log.with_suffix(f".log.{age}")
                if older.exists():
                    older.rename(log.with_suffix(f".log.{age + 1}"))
            log.rename(log.with_suffix(".log.1"))
        return log


@contextmanager
def occupied(data: Path, *, url: str) -> Iterator[Premises]:
    """Take the folder for ourselves. The lock ends with this process, however it ends; `url` is what others are told.

    Raises `CommandFailed` when it cannot be written to, or when another lab lives in it.
    """
    data = Path(os.path.abspath(data))  # noqa: PTH100  # links stay as they were given
    try:
        (data / "logs").mkdir(parents=True, exist_ok=True)
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise CommandFailed(
            f"cannot write to the data folder {data} ({error.strerror}): name another one with --data",
            ExitCode.USAGE,
        ) from error
    try:
        crashed = _take(lock, data)
        _write(lock, f"{os.getpid()} {url}\n")
        try:
            yield Premises(data, crashed)
        finally:
            _write(lock, "")
    finally:
        os.close(lock)


def _take(lock: int, data: Path) -> bool:
    """Lock it; return whether a predecessor left without a word."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid, _, url = os.pread(lock, 1000, 0).decode(errors="replace").strip().partition(" ")
        who = f"process {pid}, {url}" if url else "it is just starting"
        raise CommandFailed(
            f"a lab already runs in {data} ({who}): stop that one first, or name another folder with --data"
        ) from None
    return os.fstat(lock).st_size > 0


def _write(lock: int, text: str) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, text.encode(), 0)


def check_port(host: str, port: int, *, patient: bool) -> None:
    """Raise `CommandFailed` unless we could listen there. `patient`: whoever listens there now may be about to end."""
    deadline = time.monotonic() + (_PREDECESSOR_S if patient else 0)
    while (reason := _trouble_with(host, port)) is not None:
        if reason.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
            raise CommandFailed(_explained(host, port, reason), ExitCode.USAGE) from reason
        time.sleep(_POLL_S)


def _trouble_with(host: str, port: int) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server itself will
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return error
    return None


def _explained(host: str, port: int, reason: OSError) -> str:
    match reason.errno:
        case errno.EADDRINUSE:
            return f"port {port} of {host} is taken by another program: stop that one, or choose a port with --port"
        case errno.EACCES:
            return f"we are not allowed to listen on port {port}: choose one above 1023 with --port"
        case _:
            return (
                f"cannot listen on {host} ({reason.strerror}): name an address of this computer with --host"
            )
