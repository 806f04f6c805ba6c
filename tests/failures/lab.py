"""A lab whose processes can be killed, paused and started again, each by its name."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import orjson

from infra.servers.child import free_ports
from pipeline.errors import Retryable
from pipeline.settings import Connections
from tests.failures.checks import PATIENCE
from tests.failures.workload import POOLS, SILENT_POOL, Workload

_ROOT: Final = Path(__file__).parents[2]
_STOP_S: Final = 60
_LOOK_EVERY_S: Final = 0.05
_TAIL_CHARACTERS: Final = 3000

WRITER: Final = "writer"
SECOND_WRITER: Final = "writer-2"
RELAY: Final = "relay"
WATCHDOG: Final = "watchdog"
FACADE: Final = "facade"
FLEET_STATS: Final = "fleet-stats"
PRODUCER: Final = "producer"
SERVICES: Final = (WRITER, RELAY, WATCHDOG, FACADE)


class Lab:
    """The processes of a lab. The database has been migrated and the topics exist."""

    def __init__(self, connections: Connections, folder: Path, workload: Workload) -> None:
        [port] = free_ports(1)
        self.url: Final = f"http://127.0.0.1:{port}"
        self.journal: Final = folder / "journal"
        self._folder = folder
        self._connections = connections
        writer = ("-m", "consumers.description_writer")
        self._commands: Mapping[str, Sequence[str]] = {
            WRITER: writer,
            SECOND_WRITER: writer,
            RELAY: ("-m", "consumers.outbox_relay"),
            WATCHDOG: (
                *("-m", "consumers.watchdog", "--check-every", "0.5", "--pool-period", f"{SILENT_POOL}=1"),
                *("--period", str(PATIENCE.total_seconds() / 3)),
            ),
            FACADE: ("-m", "consumers.facade", "--port", str(port)),
            FLEET_STATS: (
                *("-m", "consumers.fleet_stats", "--window", "2", "--grace", "1"),
                *("--take-over-after", "2", "--runner", "plain"),  # Faust needs a supervisor
            ),
            PRODUCER: (
                *(
                    "-m",
                    "tests.failures.producer",
                    "--journal",
                    str(self.journal),
                    "--rate",
                    str(workload.rate),
                ),
                *("--messages", str(workload.messages), "--machines", str(workload.machines)),
            ),
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @contextmanager
    def running(self, *names: str) -> Iterator[None]:
        """Start these processes; in the end stop whatever runs, and fail if one would not stop as it should."""
        try:
            for name in names:
                self.start(name)
            yield
            for name in reversed(list(self._processes)):
                self.stop(name)
        finally:
            for name in list(self._processes):
                self.kill(name)

    def start(self, name: str) -> None:
        """Start one process."""
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, *self._commands[name]],
                cwd=_ROOT,
                env={**os.environ, **_variables(self._connections, name)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self, name: str) -> None:
        """Stop one process as an operator would, and wait until it has finished what it had in hand."""
        process = self._processes[name]
        process.terminate()
        code = process.wait(_STOP_S)
        del self._processes[name]
        assert code == 0, f"{name} ended with exit code {code}\n{self.tail(name)}"

    def kill(self, name: str) -> None:
        """`kill -9`: it gets to do nothing more, whatever it was doing."""
        process = self._processes.pop(name)
        process.kill()
        process.wait(_STOP_S)

    def pause(self, name: str) -> None:
        """Take the CPU away from it, as a machine does that swaps or a hypervisor that migrates."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let it go on where it was, as if no time had passed."""
        self._processes[name].send_signal(signal.SIGCONT)

    def has_begun(self, name: str) -> bool:
        """Whether it has been started, and not been stopped since."""
        return name in self._processes

    def has_ended(self, name: str) -> bool:
        """Whether it ended by itself, and well. Fails the test if it ended otherwise."""
        code = self._processes[name].poll()
        assert code in {None, 0}, f"{name} ended with exit code {code}\n{self.tail(name)}"
        return code == 0

    def check_alive(self) -> None:
        """Fail the test if a service has ended by itself."""
        for name in self._processes:
            assert name == PRODUCER or not self.has_ended(name), f"{name} has ended\n{self.tail(name)}"

    def tails(self) -> list[str]:
        """The last that each process said."""
        return [self.tail(log.stem) for log in sorted(self._folder.glob("*.log"))]

    def tail(self, name: str) -> str:
        """The last that a process said."""
        text = (self._folder / f"{name}.log").read_text(errors="replace")
        return f"--- {name}\n{text[-_TAIL_CHARACTERS:]}"

    def logged(self, name: str, event: str) -> list[dict[str, object]]:
        """Lines that a process, in all its lives, has logged about this."""
        log = self._folder / f"{name}.log"
        lines = log.read_bytes().splitlines() if log.exists() else []
        entries = (orjson.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}"))
        return [entry for entry in entries if entry.get("event") == event]


def _variables(connections: Connections, name: str) -> Mapping[str, str]:
    url = urlsplit(connections.database_url)
    query = urlencode([*parse_qsl(url.query), ("application_name", name)])
    return {
        "LABKEEPER_DATABASE_URL": urlunsplit(url._replace(query=query)),
        "LABKEEPER_BROKER": connections.broker.value,
        "LABKEEPER_KAFKA_SERVERS": ",".join(connections.kafka.servers),
        "LABKEEPER_TOPIC_PREFIX": connections.topic_prefix,
        "LABKEEPER_POOLS": " ".join(f"{name}={regex}" for name, regex in POOLS),
        "LABKEEPER_LOG_FORMAT": "json",
    }


async def until(
    holds: Callable[[], Awaitable[bool]],
    what: str,
    *,
    within_s: float = 300.0,
    tell: Callable[[], str] = str,
) -> None:
    """Look again and again until it holds. A broker or store that is away does not hold anything."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            if await holds():
                return
        except Retryable:
            pass  # away for now, which is what these tests are about
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}\n{tell()}"
        await asyncio.sleep(_LOOK_EVERY_S)
