"""The file of properties that says how to reach a Kafka cluster: the names of librdkafka, which kcat's `-F` reads as well.

Only what says where the cluster is and who we are. How messages travel (acks, batches, commits) is not for a file to
decide: what Labkeeper promises rests on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pipeline.errors import Misconfigured
from pipeline.settings import KafkaSettings, SaslMechanism

_PROTOCOLS: Final = {
    "PLAINTEXT": (False, False),
    "SSL": (True, False),
    "SASL_PLAINTEXT": (False, True),
    "SASL_SSL": (True, True),
}
"""Whether there is TLS, and whether SASL."""

_ALIASES: Final = {"metadata.broker.list": "bootstrap.servers", "sasl.mechanisms": "sasl.mechanism"}
_KEYS: Final = (
    "bootstrap.servers",
    "security.protocol",
    "sasl.mechanism",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
)


def read_kafka_settings(path: Path | None, *, servers: str | None = None) -> KafkaSettings:
    """Settings from the file, if there is one. `servers`, `host:port` separated by commas, beats the file.

    Raises `Misconfigured` for what cannot be read or understood.
    """
    properties = {} if path is None else _read(path)
    addresses = servers or properties.get("bootstrap.servers") or ",".join(KafkaSettings().servers)
    has_tls, mechanism = _security(path, properties)
    _check_credentials(path, properties, mechanism)
    return KafkaSettings(
        servers=_servers(addresses),
        tls=has_tls,
        ca_file=_file(path, properties, "ssl.ca.location"),
        certificate_file=_file(path, properties, "ssl.certificate.location"),
        key_file=_file(path, properties, "ssl.key.location"),
        key_password=properties.get("ssl.key.password"),
        mechanism=mechanism,
        username=properties.get("sasl.username", ""),
        password=properties.get("sasl.password", ""),
    )


def _read(path: Path) -> Mapping[str, str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{path} is not a text file in UTF-8: {error.reason}") from error
    properties: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        key = _ALIASES.get(name.strip(), name.strip())
        if not equals:
            raise Misconfigured(f"{path}, line {number}: expected KEY=VALUE")
        if key not in _KEYS:
            raise Misconfigured(f"{path}, line {number}: unknown key {key!r}; there are {', '.join(_KEYS)}")
        properties[key] = value.strip()
    return properties


def _security(path: Path | None, properties: Mapping[str, str]) -> tuple[bool, SaslMechanism | None]:
    protocol = properties.get("security.protocol", "PLAINTEXT").upper()
    if protocol not in _PROTOCOLS:
        raise Misconfigured(
            f"{path}: security.protocol is {protocol!r}; it takes {', '.join(_PROTOCOLS)} (Kerberos and OAuth are not supported)"
        )
    has_tls, has_sasl = _PROTOCOLS[protocol]
    if not has_sasl:
        return has_tls, None
    mechanism = properties.get("sasl.mechanism", SaslMechanism.PLAIN.value).upper()
    try:
        return has_tls, SaslMechanism(mechanism)
    except ValueError:
        known = ", ".join(kind.value for kind in SaslMechanism)
        raise Misconfigured(f"{path}: sasl.mechanism is {mechanism!r}; it takes {known}") from None


def _check_credentials(
    path: Path | None, properties: Mapping[str, str], mechanism: SaslMechanism | None
) -> None:
    if mechanism is not None and not (properties.get("sasl.username") and properties.get("sasl.password")):
        raise Misconfigured(f"{path}: SASL needs sasl.username and sasl.password")
    if mechanism is None and properties.get("sasl.username"):
        raise Misconfigured(
            f"{path}: sasl.username has no effect without security.protocol=SASL_SSL or SASL_PLAINTEXT"
        )


def _file(path: Path | None, properties: Mapping[str, str], key: str) -> Path | None:
    """A file that a property names, seen from the folder of the file that names it."""
    value = properties.get(key)
    if path is None or not value:
        return None
    file = path.parent / value
    if not file.is_file():
        raise Misconfigured(f"{path}: {key} names {file}, and there is no such file")
    return file


def _servers(text: str) -> tuple[str, ...]:
    servers = tuple(server.strip() for server in text.split(",") if server.strip())
    for server in servers:
        host, _, port = server.rpartition(":")
        if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
            raise Misconfigured(
                f"{server!r} is not the address of a Kafka broker: expected HOST:PORT, such as kafka-1:9092"
            )
    if not servers:
        raise Misconfigured("no Kafka broker is named: give --kafka-servers HOST:PORT,...")
    return servers
