"""Settings that every process shares. A process reads them once, in its `__main__`, and hands them on by constructor."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from pipeline.errors import Misconfigured
from pipeline.processor.pools import Pools
from schemas.topics import DEFAULT_PREFIX


class BrokerKind(StrEnum):
    """Which broker carries the topics."""

    EMBEDDED = "embedded"
    """A log in the PostgreSQL that the database URL names: one machine, nothing to set up."""
    KAFKA = "kafka"
    """An Apache Kafka cluster, or what speaks its protocol."""
    PUBSUB = "pubsub"
    """Google Cloud Pub/Sub."""


class LogFormat(StrEnum):
    """How log lines look."""

    AUTO = "auto"
    """`console` on a terminal, else `json`."""
    CONSOLE = "console"
    JSON = "json"


class SaslMechanism(StrEnum):
    """How a Kafka client proves who it is; the names are Kafka's."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach a Kafka cluster."""

    servers: tuple[str, ...] = ("localhost:9092",)
    """`host:port` of some of its brokers; they tell of the others."""
    tls: bool = False
    ca_file: Path | None = None
    """PEM; None: the authorities that the system trusts."""
    certificate_file: Path | None = None
    """PEM, for clusters that want to know their clients by certificate."""
    key_file: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    mechanism: SaslMechanism | None = None
    """None: no SASL."""
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class PubsubSettings:
    """How to reach Google Cloud Pub/Sub. Who we are, the client library finds by itself (Application Default Credentials)."""

    project: str = ""
    """Id of the project that the topics are in."""
    emulator: str | None = None
    """`host:port` of an emulator; then no credentials are used."""


@dataclass(frozen=True, slots=True)
class Connections:
    """Where the store and the broker are."""

    database_url: str
    """libpq URL or key=value string. May hold a password: never log it. Empty for a process that only publishes."""
    broker: BrokerKind = BrokerKind.EMBEDDED
    topic_prefix: str = DEFAULT_PREFIX
    """Separates several labs on one broker."""
    pools: Pools = Pools(())
    """Which pool a machine belongs to."""
    kafka: KafkaSettings = KafkaSettings()
    """Counts where the broker is `kafka`."""
    pubsub: PubsubSettings = PubsubSettings()
    """Counts where the broker is `pubsub`."""


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What every long-running process has."""

    metrics_port: int | None = None
    """Where Prometheus scrapes, on loopback unless `metrics_host` says otherwise; None: nowhere."""
    metrics_host: str = "127.0.0.1"
    log_format: LogFormat = LogFormat.AUTO
    log_level: str = "info"


@lru_cache(maxsize=256)  # asked for every request
def is_loopback(host: str) -> bool:
    """Whether a host's name or address can mean nothing but this machine."""
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def check_open_door(host: str) -> None:
    """Raise `Misconfigured` if an API that asks nobody for a token would be reached from elsewhere at this address."""
    if not is_loopback(host):
        raise Misconfigured(
            f"{host} can be reached from other hosts, and without --tokens everybody would be an admin: make a token "
            "with `labkeeper token new` and give its file to --tokens, or use --host 127.0.0.1"
        )
