"""The processes of a whole lab on one computer: what each is started with, and in which order they end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_FACADE_PATIENCE_S: Final = 25.0  # it gives requests under way 20 s


@dataclass(frozen=True, slots=True)
class Role:
    """A process that shall run."""

    name: str
    arguments: tuple[str, ...]
    """For the interpreter. Everybody on this computer can read them: no secrets."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """In addition to ours."""
    patience_s: float = 10.0
    """How long it may take to finish what is under way when it is asked to stop."""


@dataclass(frozen=True, slots=True)
class LabSettings:
    """What `labkeeper up` was asked for."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8000
    demo: int = 0
    """Simulated machines to add."""
    monitor: bool = True
    """Whether this computer reports as a machine."""
    tokens: Path | None = None
    verbose: bool = False
    """Show all that the processes log."""

    @property
    def local_host(self) -> str:
        """An address of this computer that leads to who listens on `host`."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  # read, not bound

    @property
    def url(self) -> str:
        """Where the page is, seen from this computer."""
        host = self.local_host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def pillars(settings: LabSettings, database_url: str) -> tuple[Role, ...]:
    """The processes that the page needs, the most wanted first."""
    environment = _environment(database_url)
    facade = ["--host", settings.host, "--port", str(settings.port)]
    if settings.tokens is not None:
        facade += ["--tokens", str(settings.tokens)]
    return (
        Role("facade", _module("consumers.facade", *facade), environment, _FACADE_PATIENCE_S),
        Role("writer", _module("consumers.description_writer"), environment),
    )


def helpers(settings: LabSettings, database_url: str, state: Path) -> tuple[Role, ...]:
    """The processes that can come a second later."""
    environment = _environment(database_url)
    found = [
        Role("relay", _module("consumers.outbox_relay"), environment),
        Role("watchdog", _module("consumers.watchdog"), environment),
    ]
    if settings.monitor:
        monitor = ("--url", settings.url, "--port", "off", "--state-dir", str(state))
        found.insert(0, Role("monitor", _module("producers.machine_monitor", *monitor), environment))
    if settings.demo:
        simulator = ("--url", settings.url, "--machines", str(settings.demo))
        found.append(Role("simulator", _module("producers.simulator", *simulator), environment))
    return tuple(found)


STOP_ORDER: Final = (("monitor", "simulator"), ("facade",), ("writer",), ("relay",), ("watchdog",))
"""From those who bring something in to those who take it away, so that nothing is left half done."""


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return ("-m", name, *arguments, "--log-format", "json")


def _environment(database_url: str) -> Mapping[str, str]:
    return {
        **os.environ,
        "LABKEEPER_DATABASE_URL": database_url,
        "LABKEEPER_BROKER": "embedded",
    }
