"""Reads the properties file that tools around Kafka share (librdkafka's names, as in a `kcat.conf`) into settings.

Passwords belong into such a file, readable for the service alone: never on a command line, where everybody sees them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.errors import Misconfigured
from pipeline.settings import KafkaSettings, SaslMechanism

_SERVERS: Final = "bootstrap.servers"
_PROTOCOL: Final = "security.protocol"
_MECHANISM: Final = "sasl.mechanism"
_USERNAME: Final = "sasl.username"
_PASSWORD: Final = "sasl.password"  # noqa: S105  # the name of a key
_CA: Final = "ssl.ca.location"
_CERTIFICATE: Final = "ssl.certificate.location"
_KEY: Final = "ssl.key.location"
_KEY_PASSWORD: Final = "ssl.key.password"  # noqa: S105  # the name of a key

_KEYS: Final = (
    _SERVERS,
    _PROTOCOL,
    _MECHANISM,
    _USERNAME,
    _PASSWORD,
    _CA,
    _CERTIFICATE,
    _KEY,
    _KEY_PASSWORD,
)
_ALIASES: Final[Mapping[str, str]] = {"sasl.mechanisms": _MECHANISM, "metadata.broker.list": _SERVERS}
_PROTOCOLS: Final[Mapping[str, tuple[bool, bool]]] = {
    "PLAINTEXT": (False, False),
    "SSL": (True, False),
    "SASL_PLAINTEXT": (False, True),
    "SASL_SSL": (True, True),
}
"""Name to: over TLS, with SASL."""
_DEFAULT_PORT: Final = 9092
_LARGEST: Final = 64 * 1024
"""Bytes. Whatever is larger is another file."""


@dataclass(frozen=True, slots=True)
class _Entry:
    value: str
    place: str
    """`file:line`."""


def read_config(path: Path, *, servers: Sequence[str] = ()) -> KafkaSettings:
    """Settings from the properties file at `path`; `servers`, if any are given, count more than its `bootstrap.servers`.

    Raises `Misconfigured` with file and line for what it does not understand.
    """
    entries = _entries(path)
    needs_tls, needs_sasl = _protocol(entries)
    return KafkaSettings(
        servers=parse_servers(servers) if servers else _servers(entries, path),
        tls=needs_tls,
        ca_file=_file(entries, _CA, path),
        certificate_file=_file(entries, _CERTIFICATE, path),
        key_file=_file(entries, _KEY, path),
        key_password=_text(entries, _KEY_PASSWORD) or None,
        mechanism=_mechanism(entries) if needs_sasl else None,
        username=_required(entries, _USERNAME, path) if needs_sasl else "",
        password=_required(entries, _PASSWORD, path) if needs_sasl else "",
    )


def parse_servers(servers: Sequence[str]) -> tuple[str, ...]:
    """`host:port` each, out of texts that may hold several, separated by commas; without a port it is 9092."""
    found = [part.strip() for text in servers for part in text.split(",") if part.strip()]
    if not found:
        raise Misconfigured("no Kafka server is named: give host:port of one or several, separated by commas")
    return tuple(_address(part) for part in found)


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(_DEFAULT_PORT)
    if not host or "/" in text or not port.isdecimal() or not 0 < int(port) < 65536:
        raise Misconfigured(f"{text!r} is no address of a Kafka server: it looks like host:port")
    return f"{host}:{port}"


def _entries(path: Path) -> dict[str, _Entry]:
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
        text = raw.decode()
    except OSError as error:
        raise Misconfigured(f"cannot read the Kafka configuration {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{path} is not a text file in UTF-8") from error
    if len(raw) > _LARGEST:
        raise Misconfigured(f"{path} is larger than {_LARGEST} bytes: that is no Kafka configuration")
    entries: dict[str, _Entry] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#!":
            continue
        key, entry = _entry(stripped, f"{path}:{number}")
        if key in entries:
            raise Misconfigured(f"{entry.place}: {key} is given twice, first in {entries[key].place}")
        entries[key] = entry
    return entries


def _entry(line: str, place: str) -> tuple[str, _Entry]:
    name, equals, value = line.partition("=")
    key = _ALIASES.get(name.strip(), name.strip())
    if not equals:
        raise Misconfigured(f"{place}: a line looks like key=value")  # it may hold a password: not quoted
    if key not in _KEYS:
        raise Misconfigured(f"{place}: unknown key {key!r}; known are {', '.join(_KEYS)}")
    return key, _Entry(value.strip(), place)


def _text(entries: Mapping[str, _Entry], key: str) -> str:
    return entries[key].value if key in entries else ""


def _required(entries: Mapping[str, _Entry], key: str, path: Path) -> str:
    value = _text(entries, key)
    if not value:
        raise Misconfigured(f"{path}: {entries[_PROTOCOL].value} needs {key}")
    return value


def _servers(entries: Mapping[str, _Entry], path: Path) -> tuple[str, ...]:
    if _SERVERS not in entries:
        raise Misconfigured(
            f"{path}: {_SERVERS} is missing: name a Kafka server there, or on the command line"
        )
    try:
        return parse_servers([entries[_SERVERS].value])
    except Misconfigured as error:
        raise Misconfigured(f"{entries[_SERVERS].place}: {error}") from error


def _protocol(entries: Mapping[str, _Entry]) -> tuple[bool, bool]:
    """Over TLS, with SASL. Without a protocol the other keys tell."""
    entry = entries.get(_PROTOCOL)
    if entry is None:
        for key, wants in (
            (_USERNAME, "SASL_SSL"),
            (_PASSWORD, "SASL_SSL"),
            (_MECHANISM, "SASL_SSL"),
            (_CA, "SSL"),
        ):
            if key in entries:
                raise Misconfigured(f"{entries[key].place}: {key} counts only with {_PROTOCOL}={wants}")
        return False, False
    known = _PROTOCOLS.get(entry.value.upper())
    if known is None:
        raise Misconfigured(
            f"{entry.place}: unknown {_PROTOCOL} {entry.value!r}; known are {', '.join(_PROTOCOLS)}"
        )
    return known


def _mechanism(entries: Mapping[str, _Entry]) -> SaslMechanism:
    entry = entries.get(_MECHANISM)
    known = ", ".join(SaslMechanism)
    if entry is None:
        raise Misconfigured(f"{entries[_PROTOCOL].place}: SASL needs {_MECHANISM}: one of {known}")
    try:
        return SaslMechanism(entry.value.upper())
    except ValueError:
        raise Misconfigured(
            f"{entry.place}: unknown {_MECHANISM} {entry.value!r}; known are {known}"
        ) from None


def _file(entries: Mapping[str, _Entry], key: str, path: Path) -> Path | None:
    """A file; where its path is relative, it is so to the configuration."""
    entry = entries.get(key)
    if entry is None or not entry.value:
        return None
    file = path.parent / Path(entry.value).expanduser()
    if not file.is_file():
        raise Misconfigured(f"{entry.place}: there is no file {file}")
    return file
