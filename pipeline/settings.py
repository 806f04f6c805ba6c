"""Settings that every process shares. A process reads them once, in its `__main__`, and hands them on by constructor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipeline.processor.pools import Pools
from schemas.topics import DEFAULT_PREFIX


class BrokerKind(StrEnum):
    """Which broker carries the topics."""

    EMBEDDED = "embedded"
    """A log in the PostgreSQL that the database URL names: one machine, nothing to set up."""


class LogFormat(StrEnum):
    """How log lines look."""

    AUTO = "auto"
    """`console` on a terminal, else `json`."""
    CONSOLE = "console"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Connections:
    """Where the store and the broker are."""

    database_url: str
    """libpq URL or key=value string. May hold a password: never log it."""
    broker: BrokerKind = BrokerKind.EMBEDDED
    topic_prefix: str = DEFAULT_PREFIX
    """Separates several labs on one broker."""
    pools: Pools = Pools(())
    """Which pool a machine belongs to."""


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What every long-running process has."""

    metrics_port: int | None = None
    """Where Prometheus scrapes, on loopback unless `metrics_host` says otherwise; None: nowhere."""
    metrics_host: str = "127.0.0.1"
    log_format: LogFormat = LogFormat.AUTO
    log_level: str = "info"
