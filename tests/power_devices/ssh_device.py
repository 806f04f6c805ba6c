"""The SSH side of a fake device: a real server, with a real login, behind a gate."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import asyncssh

from tests.power_devices.device import Mood, PowerDevice
from tests.power_devices.gate import Gate

USER = "ubnt"
PASSWORD = "correct-horse-battery"


@functools.cache
def key(algorithm: str) -> asyncssh.SSHKey:
    """A key pair that all fake devices of a process share: making one takes long."""
    return asyncssh.generate_private_key(algorithm)


class SshDevice(PowerDevice):
    """A device whose users log in over SSH as `USER`, with `PASSWORD` or with `user_key`."""

    def __init__(self, ports: Sequence[str]) -> None:
        super().__init__(ports)
        self.host_key_algorithm = "ssh-ed25519"
        self.algorithms: dict[str, Sequence[str]] = {"encryption_algs": ["aes128-gcm@openssh.com"]}
        """Others than asyncssh's default ones; this one is quick."""
        self.user_key: asyncssh.SSHKey | None = None
        self.logins = 0
        self._server: asyncssh.SSHAcceptor | None = None
        self._gate = Gate(lambda: self.mood is Mood.HANGS)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._gate.port

    @property
    def gate(self) -> Gate:
        """Knows when the first byte of anything came."""
        return self._gate

    @property
    def host_key(self) -> asyncssh.SSHKey:
        """Its own key, with the secret half."""
        return key(self.host_key_algorithm)

    @property
    def known_hosts_line(self) -> str:
        """As `known_hosts` has it."""
        public = self.host_key.export_public_key().decode().strip()
        return f"[127.0.0.1]:{self.port} {public}\n"

    def write_known_hosts(self, folder: Path) -> Path:
        """A file that knows this device's key only."""
        file = folder / "known_hosts"
        file.write_text(self.known_hosts_line)
        return file

    async def start(self) -> None:
        self._server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _Doorman(self),
            server_host_keys=[self.host_key],
            process_factory=self.serve,
            line_editor=False,
            encoding="utf-8",
            **self.algorithms,
        )
        await self._gate.open(self._server.get_port())

    async def stop(self) -> None:
        await self._gate.shut()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def break_off(self) -> None:
        await self._gate.cut()

    @abstractmethod
    async def serve(self, process: asyncssh.SSHServerProcess[str]) -> None:
        """Do what a login or a command asks for."""


class _Doorman(asyncssh.SSHServer):
    def __init__(self, device: SshDevice) -> None:
        self._device = device

    def begin_auth(self, username: str) -> bool:
        self._device.logins += 1
        return True

    def password_auth_supported(self) -> bool:
        return self._device.user_key is None

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD) and self._device.mood is not Mood.REFUSES

    def public_key_auth_supported(self) -> bool:
        return self._device.user_key is not None

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        expected = self._device.user_key
        is_ours = expected is not None and key == expected.convert_to_public()
        return is_ours and username == USER and self._device.mood is not Mood.REFUSES
