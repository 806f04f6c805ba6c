"""Asks a machine to reboot, over SSH, before its port is touched; and says that it did only if it did.

A machine has rebooted when it tells another boot id than before. That its connection broke off, or that the command went
well, proves nothing.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncssh

from consumers.powercycle_agent.drivers.reasons import plainly
from consumers.powercycle_agent.drivers.settings import SoftReboot

BOOT_ID: Final = "cat /proc/sys/kernel/random/boot_id 2>/dev/null || sysctl -n kern.bootsessionuuid 2>/dev/null || uptime -s"
"""Linux, macOS, and what else tells when it started."""
REBOOT: Final = "sudo -n /sbin/reboot"
"""Without the `-f` that was used once: that one does not write out what is in memory, and cutting the power, which comes
next if this fails, is no worse.
"""
_CONNECT_S: Final = 5.0
_COMMAND_S: Final = 10.0
_ASK_EVERY_S: Final = 2.0
_LIMIT: Final = 4096
"""Characters that are read of an answer."""
_SHOWN: Final = 200
"""Characters that an error shows of it."""

_boot_id = re.compile(r"[0-9A-Za-z][0-9A-Za-z :.+-]{7,63}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the request."""

    rebooted: bool
    """The machine is up again after a reboot."""
    text: str
    """What happened, in words."""


class _NotAnswered(Exception):
    """The machine could not be asked, or did not answer. The text says why."""


async def soft_reboot(machine_id: str, settings: SoftReboot, *, ask_every_s: float = _ASK_EVERY_S) -> Outcome:
    """Reboot the machine whose id is its host name, and wait until it is back. Takes `wait_s` at the longest, and before
    that up to 25 seconds to ask it. Raises nothing.
    """
    machine = _Machine(machine_id, settings)
    try:
        before = await _begin(machine)
    except _NotAnswered as error:
        return Outcome(rebooted=False, text=str(error))
    began = time.monotonic()
    try:
        async with asyncio.timeout(settings.wait_s):
            await _come_back(machine, before, ask_every_s)
    except TimeoutError:
        seconds = f"{settings.wait_s:g} s"
        what = (
            f"is not back after {seconds}: {machine.silence}"
            if machine.silence
            else f"has not after {seconds}"
        )
        return Outcome(rebooted=False, text=f"{machine_id} was asked to reboot, and {what}")
    return Outcome(rebooted=True, text=f"{machine_id} rebooted in {time.monotonic() - began:.0f} s")


async def ask_to_reboot(machine_id: str, settings: SoftReboot) -> str:
    """The same, as the executor wants it: empty when the machine has rebooted, otherwise why it has not."""
    outcome = await soft_reboot(machine_id, settings)
    return "" if outcome.rebooted else outcome.text


async def _begin(machine: _Machine) -> str:
    """Have it reboot; return its boot id from before."""
    async with machine.session() as connection:
        before = await machine.boot_id(connection)
        status, said = await machine.run(connection, REBOOT)
    if status not in {0, None}:  # None: it may well be on its way down
        raise _NotAnswered(
            f"{machine.name} will not reboot: `{REBOOT}` ended with status {status}{_quoted(said)}"
        )
    return before


async def _come_back(machine: _Machine, before: str, ask_every_s: float) -> None:
    """Return once it tells another boot id."""
    while True:
        try:
            async with machine.session() as connection:
                if await machine.boot_id(connection) != before:
                    return
            machine.silence = ""
        except _NotAnswered as error:
            machine.silence = str(error)
        await asyncio.sleep(ask_every_s)


class _Machine:
    """The way to one machine."""

    def __init__(self, name: str, settings: SoftReboot) -> None:
        self.name = name
        self.silence = "no answer yet"
        """Why it did not answer when it was asked last; empty: it did."""
        self._settings = settings

    @asynccontextmanager
    async def session(self) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """A connection that is gone afterwards. Raises `_NotAnswered`."""
        try:
            async with asyncio.timeout(_CONNECT_S):
                connection = await asyncssh.connect(self.name, **self._options())
        except TimeoutError as error:
            raise _NotAnswered(f"{self.name} does not answer over SSH") from error
        except asyncssh.PermissionDenied as error:
            raise _NotAnswered(f"{self.name} refuses the login over SSH ({error.reason})") from error
        except asyncssh.HostKeyNotVerifiable as error:
            raise _NotAnswered(
                f"the host key of {self.name} is not a known one ({error.reason}): log in once with `ssh {self.name}`, "
                "or name the file that has it with known_hosts"
            ) from error
        except (asyncssh.Error, OSError, ValueError) as error:
            raise _NotAnswered(f"{self.name} cannot be reached over SSH: {plainly(error)}") from error
        try:
            yield connection
        finally:
            connection.abort()

    def _options(self) -> dict[str, Any]:
        """Whatever is not said here is as `~/.ssh` of the agent's user has it."""
        given = self._settings
        options: dict[str, Any] = {"password_auth": False, "kbdint_auth": False}
        if "port" in given.model_fields_set:
            options["port"] = given.port
        if given.user is not None:
            options["username"] = given.user
        if given.key_file is not None:
            options["client_keys"] = [str(Path(given.key_file).expanduser())]
        if given.known_hosts is not None:
            options["known_hosts"] = str(Path(given.known_hosts).expanduser())
        return options

    async def boot_id(self, connection: asyncssh.SSHClientConnection) -> str:
        """What it calls its present run. Raises `_NotAnswered`."""
        status, said = await self.run(connection, BOOT_ID)
        if status is None:
            raise _NotAnswered(f"{self.name} did not answer")
        if status != 0 or not _boot_id.fullmatch(said.strip()):
            raise _NotAnswered(
                f"{self.name} does not tell its boot id, and so nobody could tell that it rebooted{_quoted(said)}"
            )
        return said.strip()

    async def run(self, connection: asyncssh.SSHClientConnection, command: str) -> tuple[int | None, str]:
        """Exit status and output of a command. No status: it did not end in time, or the connection did before."""
        try:
            async with asyncio.timeout(_COMMAND_S):
                process = await connection.create_process(command, stderr=asyncssh.STDOUT, errors="replace")
                try:
                    said = await process.stdout.read(_LIMIT)
                    await process.wait_closed()
                finally:
                    process.close()
        except (asyncssh.Error, OSError):
            return None, ""
        return process.exit_status, said


def _quoted(said: str) -> str:
    """What a machine said, for the end of a sentence."""
    words = " ".join(said.split())[:_SHOWN]
    return f": {words!r}" if words else ""
