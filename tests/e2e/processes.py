"""A lab as it runs for real: its services as processes of their own, spoken to through HTTP only."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from infra.servers.child import free_ports

_ROOT: Final = Path(__file__).parents[2]
_START_S: Final = 120
_STOP_S: Final = 60
_LOOK_EVERY_S: Final = 0.05
_AT_ONCE: Final = 8

WRITER: Final = "consumers.description_writer"
RELAY: Final = "consumers.outbox_relay"
WATCHDOG: Final = "consumers.watchdog"
FACADE: Final = "consumers.facade"

IMPATIENT_PREFIX: Final = "quick-"
"""Machines whose id begins so are down after three seconds of silence; the others after a minute and a half."""


class Lab:
    """A lab with an empty database."""

    def __init__(
        self,
        database_url: str,
        logs: Path,
        *,
        facade_options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment` is for all processes, beside what tells them where the lab is."""
        self._database_url = database_url
        self._more_environment = environment or {}
        self._logs = logs
        [self._port] = free_ports(1)
        self._options: Mapping[str, Sequence[str]] = {
            WRITER: (),
            RELAY: (),
            WATCHDOG: ("--pool-period", "Quick=1", "--check-every", "0.5"),
            FACADE: ("--port", str(self._port), *facade_options),
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.token: str | None = None
        """Sent with every request, once there is one."""

    @property
    def url(self) -> str:
        """Of the page, without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Prepare the database, start all services, and stop them in the end. Fails the test if one ended before."""
        self.labkeeper("db", "migrate")
        try:
            for module in self._options:
                self.start(module)
            self.wait_until_ready()
            yield
            self._check_alive()
        finally:
            for module in reversed(list(self._processes)):
                self.stop(module)

    def start(self, module: str, *more: str) -> None:
        """Start one service; `more` options than it always has."""
        with (self._logs / f"{module}.log").open("ab") as log:
            self._processes[module] = subprocess.Popen(
                [sys.executable, "-m", module, *self._options.get(module, ()), *more],
                cwd=_ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self, module: str) -> None:
        """Stop one service, as an operator would."""
        process = self._processes.pop(module)
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)
            raise

    def kill(self, module: str) -> None:
        """Have one service die on the spot."""
        process = self._processes.pop(module)
        process.kill()
        process.wait(_STOP_S)

    def wait_until_ready(self) -> None:
        """Return when the façade says that it is."""
        eventually(lambda: self._status_of("/readyz") == 200, "the façade is ready", tell=self._tell)

    def report(self, event: Mapping[str, Any]) -> None:
        """Post an event, as a machine does."""
        self.ask("POST", "/api/v1/events", event)

    def report_all(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Post many events, over a few connections."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._report_some, [events[start::_AT_ONCE] for start in range(_AT_ONCE)]))

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON; None without one. Fails the test when the answer is not a success."""
        connection = self._connect()
        try:
            return self._ask(connection, method, path, body)
        finally:
            connection.close()

    def labkeeper(self, *arguments: str) -> str:
        """Standard output of a `labkeeper` command."""
        command = [sys.executable, "-m", "producers.labkeeper", *arguments]
        done = subprocess.run(
            command,
            cwd=_ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_START_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _report_some(self, events: Sequence[Mapping[str, Any]]) -> None:
        connection = self._connect()
        try:
            for event in events:
                self._ask(connection, "POST", "/api/v1/events", event)
        finally:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, method: str, path: str, body: object) -> Any:
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        text = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            text = json.dumps(body)
        connection.request(method, path, text, headers)
        response = connection.getresponse()
        answer = response.read()
        assert response.status < 300, f"{method} {path}: {response.status} {answer.decode(errors='replace')}"
        return json.loads(answer) if answer else None

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)

    def _status_of(self, path: str) -> int:
        self._check_alive()
        connection = self._connect()
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def _check_alive(self) -> None:
        for module, process in self._processes.items():
            assert process.poll() is None, f"{module} has ended\n{self._tell()}"

    def _tell(self) -> str:
        logs = sorted(self._logs.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in logs)

    @property
    def _environment(self) -> Mapping[str, str]:
        return {
            **os.environ,
            **self._more_environment,
            "LABKEEPER_DATABASE_URL": self._database_url,
            "LABKEEPER_POOLS": f"Quick=^{IMPATIENT_PREFIX} Lab=",
            "LABKEEPER_LOG_FORMAT": "json",
        }


def eventually(
    holds: Callable[[], bool], what: str, *, within_s: float = _START_S, tell: Callable[[], str] = str
) -> None:
    """Look again and again until it holds."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}\n{tell()}"
        time.sleep(_LOOK_EVERY_S)
