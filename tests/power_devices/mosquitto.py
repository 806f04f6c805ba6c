"""A real MQTT broker on loopback: Mosquitto."""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import os
import shutil
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from infra.servers.child import free_ports

_ITERATIONS: Final = 101
_START_S: Final = 60


def program() -> str:
    """Its path; skips the test where it is not installed."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("the broker mosquitto is not installed: apt-get install mosquitto")
    return found


class Mosquitto:
    """A broker with a listener for each set of accounts, so that one of them can be the one that knows nobody."""

    def __init__(
        self, folder: Path, accounts: Sequence[Mapping[str, str]], options: Sequence[str] = ()
    ) -> None:
        """`accounts`: user → password, for each listener. `options`: lines for each listener."""
        self._folder = folder
        self._options = options
        self.ports = free_ports(len(accounts))
        self._process: asyncio.subprocess.Process | None = None
        self._accounts = accounts

    async def start(self) -> None:
        """Return when it listens."""
        configuration = self._folder / "mosquitto.conf"
        configuration.write_text("\n".join(self._lines()) + "\n")
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                program(), "-c", str(configuration), stdout=log, stderr=log
            )
        async with asyncio.timeout(_START_S):
            for port in self.ports:
                await _listens(port)

    async def stop(self) -> None:
        """Return when it has ended."""
        if self._process is not None:
            self._process.terminate()
            await self._process.wait()
            self._process = None

    def _lines(self) -> list[str]:
        lines = ["per_listener_settings true", f"user {getpass.getuser()}", "log_type error"]
        for number, (port, accounts) in enumerate(zip(self.ports, self._accounts, strict=True)):
            passwords = self._folder / f"passwords-{number}"
            passwords.write_text("".join(_password_line(*account) for account in accounts.items()))
            passwords.chmod(0o600)
            lines += [f"listener {port} 127.0.0.1", f"password_file {passwords}", *self._options]
        return lines


def _password_line(user: str, password: str) -> str:
    salt = os.urandom(12)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS, 64)
    return f"{user}:$7${_ITERATIONS}${b64encode(salt).decode()}${b64encode(key).decode()}\n"


async def _listens(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            await writer.wait_closed()
            return
