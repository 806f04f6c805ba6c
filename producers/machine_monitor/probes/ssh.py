"""Runs commands on a device over SSH. The device's host key must be in known_hosts; nobody is asked for a password.

Algorithms that rest on SHA-1 are refused.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import asyncssh

from producers.machine_monitor.probes.protocol import ProbeFailed

CONNECT_TIME: Final = timedelta(seconds=15)
COMMAND_TIME: Final = timedelta(seconds=20)
OUTPUT_LIMIT: Final = 64 * 1024
_SHOWN: Final = 500
_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.@_-]*")


@dataclass(frozen=True, slots=True)
class SshSettings:
    """How devices are reached. None leaves a thing to `~/.ssh`, as `ssh` itself does."""

    known_hosts: Path | None = None
    identity: Path | None = None
    """Private key file, without passphrase."""
    port: int | None = None


class ConnectionEnded(ProbeFailed):
    """The device hung up while a command ran."""


class SshSession:
    """An open connection to one device."""

    def __init__(self, address: str, connection: asyncssh.SSHClientConnection) -> None:
        self._address = address
        self._connection = connection

    async def run(self, command: str) -> str:
        """What `command` writes to standard output. Raises `ProbeFailed` when it fails, dawdles or babbles."""
        trouble = f"ssh {self._address} {command}"
        try:
            async with asyncio.timeout(COMMAND_TIME.total_seconds()):
                process = await self._connection.create_process(command, encoding=None)
                try:
                    out, err = await asyncio.gather(_read(process.stdout), _read(process.stderr))
                    await process.wait_closed()
                finally:
                    process.close()
        except TimeoutError:
            raise ProbeFailed(f"{trouble}: no answer within {COMMAND_TIME.total_seconds():g} s") from None
        except asyncssh.ConnectionLost as error:
            raise ConnectionEnded(f"{trouble}: the connection was lost") from error
        except (asyncssh.Error, OSError) as error:
            raise ProbeFailed(f"{trouble}: {error}") from error
        if len(out) > OUTPUT_LIMIT or len(err) > OUTPUT_LIMIT:
            raise ProbeFailed(f"{trouble}: wrote more than {OUTPUT_LIMIT} bytes")
        if process.exit_status is None:
            raise ConnectionEnded(f"{trouble}: the connection ended before the command did")
        if process.exit_status != 0:
            said = _text(err).strip()[:_SHOWN]
            raise ProbeFailed(f'{trouble}: failed with stderr: "{said}": exit status {process.exit_status}')
        return _text(out)


class SshClient:
    """Connects to devices by the address that people typed in, `[user@]host`."""

    def __init__(self, settings: SshSettings) -> None:
        self._settings = settings

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[SshSession]:
        """A connection for as long as the context lasts. Raises `ProbeFailed` naming the address and the reason."""
        user, host = parse_address(address)
        options = _options(self._settings) | ({"username": user} if user else {})
        try:
            async with asyncio.timeout(CONNECT_TIME.total_seconds()):
                connection = await asyncssh.connect(host, **options)
        except TimeoutError:
            raise ProbeFailed(
                f"ssh {address}: no connection within {CONNECT_TIME.total_seconds():g} s"
            ) from None
        except asyncssh.HostKeyNotVerifiable as error:
            raise ProbeFailed(
                f"ssh {address}: its host key is not in known_hosts ({error}); "
                "compare the key with the device's, then add it"
            ) from error
        except (asyncssh.Error, OSError, ValueError) as error:  # ValueError: a malformed key or known_hosts
            raise ProbeFailed(f"ssh {address}: {error}") from error
        try:
            yield SshSession(address, connection)
        finally:
            connection.abort()


def parse_address(address: str) -> tuple[str, str]:
    """User (may be empty) and host. Raises `ProbeFailed` for what is not letters, digits, `.`, `-`, `_` and `@`."""
    if not _ADDRESS.fullmatch(address):
        raise ProbeFailed(f"{address!r} is no SSH address: give host, or user@host")
    user, _, host = address.rpartition("@")
    return user, host


def _options(settings: SshSettings) -> dict[str, Any]:
    chosen = {
        "known_hosts": str(settings.known_hosts) if settings.known_hosts else None,
        "client_keys": [str(settings.identity)] if settings.identity else None,
        "port": settings.port,
    }
    return {name: value for name, value in chosen.items() if value is not None} | {
        "kex_algs": "-*sha1",
        "mac_algs": "-*sha1*",
        "preferred_auth": ("publickey",),
    }


async def _read(stream: asyncssh.SSHReader[bytes]) -> bytes:
    """All that comes, up to one byte more than is allowed."""
    collected = b""
    while len(collected) <= OUTPUT_LIMIT:
        chunk = await stream.read(OUTPUT_LIMIT + 1 - len(collected))
        if not chunk:
            break
        collected += chunk
    return collected


def _text(written: bytes) -> str:
    return written.decode("utf-8", "replace").replace("\x00", "\ufffd")  # no store keeps a NUL
