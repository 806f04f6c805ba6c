"""A Kafka server that asks who you are, for tests of SASL and TLS."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from infra.servers.child import free_ports
from infra.servers.kafka.certificates import CLIENT_NAME, Certificates
from infra.servers.kafka.jars import default_version, jars
from infra.servers.kafka.properties import NodePlan
from infra.servers.kafka.server import KafkaServer

_USER: Final = "labkeeper"
_GUEST: Final = "guest"
_SASL_LISTENERS: Final = ("SASL_PLAINTEXT", "SASL_SSL")
_LISTENERS: Final = ("PLAINTEXT", *_SASL_LISTENERS, "SSL", "CONTROLLER")
_SCRAM: Final = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_MODULES: Final = "org.apache.kafka.common.security"


@dataclass(frozen=True, slots=True)
class Access:
    """What a client needs to be let in. Every mechanism (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512) knows both users."""

    user: str
    """May do everything."""
    guest: str
    """May do nothing, once let in; has the same password."""
    password: str = field(repr=False)
    certificates: Certificates


class SecureKafkaServer(KafkaServer):
    """A single node with more listeners: see `sasl_plaintext`, `sasl_ssl` and `ssl`. `bootstrap` still asks nothing."""

    access: Access

    @classmethod
    def start(cls, folder: Path, *, version: str | None = None, port: int | None = None) -> Self:
        """As `KafkaServer.start`, but `folder` is new: a second start would not know the first one's password."""
        programs = jars(version or default_version())
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        access = Access(_USER, _GUEST, secrets.token_urlsafe(12), Certificates.issue(folder))
        ports = dict(zip(_LISTENERS, free_ports(len(_LISTENERS)), strict=True))
        plan = NodePlan(
            node_id=1,
            folder=folder,
            ports={**ports, "PLAINTEXT": port or ports["PLAINTEXT"]},
            voters={1: ports["CONTROLLER"]},
            extra=_properties(access),
        )
        server = cls.of(plan, programs, scram=_scram(access))
        server.access = access
        return server

    @property
    def sasl_plaintext(self) -> str:
        """Address of the listener that wants a password and encrypts nothing."""
        return self.address("SASL_PLAINTEXT")

    @property
    def sasl_ssl(self) -> str:
        """Address of the listener with TLS that wants a password."""
        return self.address("SASL_SSL")

    @property
    def ssl(self) -> str:
        """Address of the listener with TLS that wants a client certificate."""
        return self.address("SSL")


def _scram(access: Access) -> list[str]:
    """For the storage tool, which takes them in its arguments only: passwords for a test, alive for a test."""
    users = (access.user, access.guest)
    return [f"{mechanism}=[name={user},password={access.password}]" for mechanism in _SCRAM for user in users]


def _properties(access: Access) -> Mapping[str, str]:
    found = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{access.user};User:{CLIENT_NAME}",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(access.certificates.server_keystore),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(access.certificates.ca_file),
        "listener.name.ssl.ssl.client.auth": "required",
    }
    plain = " ".join(f'user_{user}="{access.password}"' for user in (access.user, access.guest))
    for listener in _SASL_LISTENERS:
        prefix = f"listener.name.{listener.lower()}"
        found[f"{prefix}.sasl.enabled.mechanisms"] = ",".join(("PLAIN", *_SCRAM))
        found[f"{prefix}.plain.sasl.jaas.config"] = f"{_MODULES}.plain.PlainLoginModule required {plain};"
        for mechanism in _SCRAM:
            name = f"{prefix}.{mechanism.lower()}.sasl.jaas.config"
            found[name] = f"{_MODULES}.scram.ScramLoginModule required;"
    return found
