"""A machine of the lab with a real SSH server on loopback, which can be asked to reboot."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh

from consumers.powercycle_agent.drivers.settings import SoftReboot
from consumers.powercycle_agent.soft_reboot import BOOT_ID, REBOOT

FOR_GOOD = 1_000_000


@functools.cache
def key(name: str) -> asyncssh.SSHKey:
    """A key pair for each name."""
    return asyncssh.generate_private_key("ssh-ed25519", name)


class Machine:
    """What happens on a reboot is up to the test."""

    def __init__(self) -> None:
        self.boot_id = "11111111-aaaa-4bbb-8ccc-000000000001"
        self.users = {"chrome-bot"}
        self.commands: list[str] = []
        self.dark = 0
        """So many connections to come fail, as if nobody was there."""
        self.on_reboot: Callable[[], int | None] = self.reboot
        """Exit status; None: the connection ends without one."""
        self.port = 0
        self._connections: set[asyncssh.SSHServerConnection] = set()

    def reboot(self, *, dark: int = 2) -> None:
        """Break off everything, and be away for a while."""
        self.boot_id = f"{self.boot_id[:-1]}{int(self.boot_id[-1]) + 1}"
        self.dark = dark

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Machine]:
        """Its server runs."""
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _Door(self),
            server_host_keys=[key("host")],
            process_factory=self._serve,
        )
        self.port = server.get_port()
        try:
            yield self
        finally:
            server.close()
            for connection in self._connections:
                connection.abort()
            await server.wait_closed()

    def settings(
        self, folder: Path, *, wait_s: float = 30, user: str = "chrome-bot", host: str = "host"
    ) -> SoftReboot:
        """How an agent that knows this machine gets in."""
        secret = folder / "id"
        key("user").write_private_key(secret)
        known = folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self.port} {key(host).export_public_key().decode()}")
        return SoftReboot(
            user=user, key_file=str(secret), known_hosts=str(known), port=self.port, wait_s=wait_s
        )

    def met(self, connection: asyncssh.SSHServerConnection) -> None:
        """Somebody calls."""
        if self.dark:
            self.dark -= 1
            connection.abort()
        else:
            self._connections.add(connection)

    async def _serve(self, process: asyncssh.SSHServerProcess[str]) -> None:
        command = process.command or ""
        self.commands.append(command)
        if command == BOOT_ID:
            process.stdout.write(self.boot_id + "\n" if self.boot_id else "")
            process.exit(0 if self.boot_id else 1)
        elif command == REBOOT:
            status = self.on_reboot()
            if status is None:
                process.channel.get_connection().abort()
            else:
                process.stderr.write("sudo: a password is\nrequired\n" if status else "")
                process.exit(status)
        else:
            process.exit(127)


class _Door(asyncssh.SSHServer):
    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._machine.met(conn)

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key_: asyncssh.SSHKey) -> bool:
        return username in self._machine.users and key_ == key("user").convert_to_public()
