"""Servers in containers, wherever a Docker engine answers."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Final
from urllib.parse import urlsplit

from infra.servers.child import free_ports
from infra.servers.errors import ServerUnavailable

_PING_S: Final = 2
_REASON_LENGTH: Final = 300


@dataclass(frozen=True, slots=True)
class Container:
    """What to run."""

    image: str
    port: int
    """On which the server listens inside."""
    ready: str
    """Regular expression for what it logs once it serves."""
    ready_times: int = 1
    """How often it logs that until it really does."""
    command: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """Values may hold `{address}`: host and port under which clients outside find the server."""

    @contextmanager
    def running(self) -> Iterator[str]:
        """Its address, `host:port`, while it runs. Raises `ServerUnavailable` when the engine cannot fetch or start it."""
        from docker.errors import (  # type: ignore[import-untyped]  # noqa: PLC0415  # slow, only wanted here
            DockerException,
        )

        with ExitStack() as stack:
            try:
                address = self._start(stack)
            except (DockerException, RuntimeError, OSError) as error:
                reason = " ".join(str(error).split())[:_REASON_LENGTH]
                raise ServerUnavailable(f"Docker gives no container of {self.image} ({reason})") from error
            yield address

    def _start(self, stack: ExitStack) -> str:
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415  # as above
        from testcontainers.core.wait_strategies import LogMessageWaitStrategy  # noqa: PLC0415

        (port,) = free_ports(1)
        container = DockerContainer(self.image, command=self.command).with_bind_ports(self.port, port)
        address = f"{container.get_docker_client().host()}:{port}"  # known before it has started
        for name, value in self.environment.items():
            container.with_env(name, value.format(address=address))
        container.waiting_for(LogMessageWaitStrategy(self.ready, times=self.ready_times))
        stack.enter_context(container)
        return address


@cache
def docker_answers() -> bool:
    """Whether there is an engine to ask for containers."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    engine = urlsplit(host)
    family = socket.AF_UNIX if engine.scheme == "unix" else socket.AF_INET
    address = engine.path if engine.scheme == "unix" else (engine.hostname, engine.port or 2375)
    with socket.socket(family) as connection:
        connection.settimeout(_PING_S)
        try:
            connection.connect(address)
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in connection.recv(64)
        except OSError:
            return False
