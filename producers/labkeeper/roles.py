"""The processes of a whole lab on one computer: what each is started with, and in which order they end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_POWER_AGENT: Final = "consumers.powercycle_agent"
_PATIENCE_S: Final = 10.0
_AGENT_PATIENCE_S: Final = 30.0  # no port must stay off because of us
_FACADE_PATIENCE_S: Final = 25.0  # it gives requests under way 20 s


@dataclass(frozen=True, slots=True)
class Role:
    """A process that shall run."""

    name: str
    arguments: tuple[str, ...]
    """For the interpreter. Everybody on this computer can read them: no secrets."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """In addition to ours."""
    patience_s: float = _PATIENCE_S
    """How long it may take to finish what is under way when it is asked to stop."""
    has_metrics: bool = False
    """Whether it takes `--metrics-port`."""


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
    pools: tuple[str, ...] = ("Lab=",)
    """NAME=REGEX each, the first that matches a machine's id counts."""
    period_s: float = 30.0
    """How often machines report."""
    pool_periods: tuple[str, ...] = ()
    """POOL=SECONDS each: pools whose machines report at another period."""
    power_config: Path | None = None
    """What this computer's power agent drives; None: it has none."""
    heal_policy: Path | None = None
    """None: nothing is healed unasked."""
    notifier_config: Path | None = None
    """None: nobody is told."""

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
    pools = _repeated("--pool", settings.pools)
    facade = ["--host", settings.host, "--port", str(settings.port), *pools]
    if settings.tokens is not None:
        facade += ["--tokens", str(settings.tokens)]
    return (
        _service("facade", "consumers.facade", facade, environment, _FACADE_PATIENCE_S),
        _service("writer", "consumers.description_writer", pools, environment),
    )


def helpers(
    settings: LabSettings, database_url: str, *, monitor_state: Path, demo_power: Path
) -> tuple[Role, ...]:
    """The processes that can come a second later. `demo_power`: what the simulator tells its power agent."""
    environment = _environment(database_url)
    pools = _repeated("--pool", settings.pools)
    period = ("--period", str(settings.period_s))
    judgement = [*pools, *period, *_repeated("--pool-period", settings.pool_periods)]
    if settings.heal_policy is not None:
        judgement += ["--heal-policy", str(settings.heal_policy)]
    found = [
        _service("relay", "consumers.outbox_relay", pools, environment),
        _service("watchdog", "consumers.watchdog", judgement, environment),
        _service("fleet-stats", "consumers.fleet_stats", (), environment),
    ]
    if settings.monitor:
        monitor = ("--url", settings.url, "--port", "off", "--state-dir", str(monitor_state), *period)
        found.insert(0, _service("monitor", "producers.machine_monitor", monitor, environment))
    if settings.demo:
        power = ("--power-config", str(demo_power))
        simulator = ("--url", settings.url, "--machines", str(settings.demo), *power, *period)
        found.append(_service("simulator", "producers.simulator", simulator, environment))
        demo = ("--name", "demo", "--config", str(demo_power), "--state-dir", str(demo_power.parent / "demo"))
        found.append(_service("demo-agent", _POWER_AGENT, demo, environment, _AGENT_PATIENCE_S))
    if settings.power_config is not None:
        power = ("--config", str(settings.power_config))
        found.append(_service("power-agent", _POWER_AGENT, power, environment, _AGENT_PATIENCE_S))
    if settings.notifier_config is not None:
        notifier = (*pools, "--config", str(settings.notifier_config))
        found.append(_service("notifier", "consumers.notifier", notifier, environment))
    return tuple(found)


STOP_ORDER: Final = (
    ("monitor",),
    ("demo-agent", "power-agent"),
    ("simulator",),
    ("facade",),
    ("writer",),
    ("relay",),
    ("watchdog", "fleet-stats", "notifier"),
)
"""From those who bring something in to those who take it away, so that nothing is left half done."""


def _service(
    name: str,
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    patience_s: float = _PATIENCE_S,
) -> Role:
    words = ("-m", module, *arguments, "--log-format", "json")
    return Role(name, words, environment, patience_s, has_metrics=True)


def _repeated(option: str, values: Sequence[str]) -> tuple[str, ...]:
    """The option once for each value."""
    return tuple(f"{option}={value}" for value in values)


def _environment(database_url: str) -> Mapping[str, str]:
    return {
        **os.environ,
        "LABKEEPER_DATABASE_URL": database_url,
        "LABKEEPER_BROKER": "embedded",
    }
