"""The file of the controllers' host keys: who is known by which key, and learning a new one.

The file has the form that `ssh` has. Lines of others (hashed names, patterns, revocations, comments) count, and stay.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import asyncssh

from pipeline.errors import Misconfigured

_MAX_BYTES: Final = 16 * 1024 * 1024
_NEW_MODE: Final = 0o600
_SSH_PORT: Final = 22
"""Names of hosts do not carry this one."""


class Standing(Enum):
    """What a file says of a key that a host shows."""

    NEW = "new"
    """It knows no key of this host."""
    KNOWN = "known"
    CHANGED = "changed"
    """It knows others."""
    REVOKED = "revoked"
    """It says that this key must never be believed."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The standing of a key, and what is known instead of it."""

    standing: Standing
    others: tuple[str, ...] = ()
    """`<type> SHA256:…` of the keys that the host had so far."""


class KnownHosts:
    """One file; it need not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def judge(self, address: str, port: int, fingerprint: str) -> Judgement:
        """What the file says of a host's key. Raises `Misconfigured` when it cannot be read."""
        return self._judge(self._text(), address, port, fingerprint)

    def learn(self, address: str, port: int, line: str, *, replace: bool) -> None:
        """Add a key's line, and with `replace` take those of the host's other keys out. Written whole or not at all.

        Raises `Misconfigured` when the file cannot be written, or has other keys for the host that cannot be taken out.
        """
        with self._locked():
            kept = self._text().splitlines()
            if replace:
                kept = [
                    rest for old in kept if (rest := _without(old, line.split(maxsplit=1)[0])) is not None
                ]
            text = "".join(f"{one}\n" for one in [*kept, line])
            others = self._judge(
                text, address, port, asyncssh.import_public_key(line.split(" ", 1)[1]).get_fingerprint()
            )
            if replace and others.others:
                raise Misconfigured(
                    f"{self._path} has the old key of {address} in a line for several hosts, or under a hashed name: "
                    "take that line out by hand"
                )
            self._write(text)

    def _judge(self, text: str, address: str, port: int, fingerprint: str) -> Judgement:
        try:
            hosts = asyncssh.import_known_hosts(text)
        except ValueError as error:
            raise Misconfigured(f"cannot read the host keys in {self._path}: {error}") from error
        trusted, _, revoked, *_ = hosts.match(address, "", None if port == _SSH_PORT else port)
        if any(key.get_fingerprint() == fingerprint for key in revoked):
            return Judgement(Standing.REVOKED)
        others = [key for key in trusted if key.get_fingerprint() != fingerprint]
        told = tuple(f"{key.get_algorithm()} {key.get_fingerprint()}" for key in others)
        if len(others) < len(trusted):
            return Judgement(Standing.KNOWN, told)
        return Judgement(Standing.CHANGED if others else Standing.NEW, told)

    def _text(self) -> str:
        try:
            with self._path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
            if len(content) > _MAX_BYTES:
                raise Misconfigured(f"{self._path} is too large to be a file of host keys")
            return content.decode("utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(f"cannot read the host keys in {self._path}: {error}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else learns meanwhile. It is their directory that is locked: the file is replaced."""
        folder = self._path.resolve().parent
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Misconfigured(f"cannot write {self._path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, text: str) -> None:
        target = self._path.resolve()
        try:
            mode = target.stat().st_mode & 0o777 if target.exists() else _NEW_MODE
            descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fchmod(file.fileno(), mode)
                    os.fsync(file.fileno())
                Path(name).replace(target)
            finally:
                Path(name).unlink(missing_ok=True)
        except OSError as error:
            raise Misconfigured(f"cannot write {self._path}: {error.strerror}") from error


def _without(line: str, host: str) -> str | None:
    """The line without a host; None: nothing is left of it."""
    fields = line.split(None, 1)
    if len(fields) < 2 or line.startswith(("#", "@")):
        return line
    hosts = fields[0].split(",")
    if host not in hosts:
        return line
    others = ",".join(other for other in hosts if other != host)
    return f"{others} {fields[1]}" if others else None
