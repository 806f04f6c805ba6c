"""A fake mFi mPower strip: BusyBox over an old SSH server, and `/proc/power`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import asyncssh

from consumers.powercycle_agent.drivers.protocol import PortState
from tests.power_devices.device import Mood
from tests.power_devices.ssh_device import SshDevice

_WRITE = re.compile(r"echo ([01]) > /proc/power/relay(\d+)")
_READ = re.compile(r"cat /proc/power/(relay|active_pwr)(\d+)")


class FakeMPower(SshDevice):
    """Takes one command a channel, or a script on the standard input of a shell, as the old agent had it."""

    def __init__(self, ports: Sequence[str] = ("1", "2", "3")) -> None:
        super().__init__(ports)

    def age(self) -> None:
        """Know no other algorithms than the strips do. A login then takes a quarter of a second."""
        self.host_key_algorithm = "ssh-rsa"
        self.algorithms = {
            "kex_algs": ["diffie-hellman-group1-sha1"],
            "encryption_algs": ["aes128-cbc", "3des-cbc"],
            "mac_algs": ["hmac-sha1", "hmac-md5"],
            "signature_algs": ["ssh-rsa"],
        }

    async def serve(self, process: asyncssh.SSHServerProcess[str]) -> None:
        if process.command is not None:
            process.exit(await self._do(process.command, process))
            return
        status = 0
        async for line in process.stdin:
            status = await self._do(line.rstrip("\n"), process)
        process.exit(status)

    async def _do(self, command: str, process: asyncssh.SSHServerProcess[str]) -> int:
        self.note(command)
        if self.mood is Mood.BABBLES:
            process.stdout.write("\x00\x1b[2J<html>503</html>")
            return 0
        wrote, read = _WRITE.fullmatch(command), _READ.fullmatch(command)
        if wrote is not None and wrote[2] in self.states:
            state = PortState.ON if wrote[1] == "1" else PortState.OFF
            if await self.is_due(state):
                self.switch(wrote[2], state)
            return 0
        if read is not None and read[2] in self.states:
            is_on = self.states[read[2]] is PortState.ON
            value = ("1" if is_on else "0") if read[1] == "relay" else ("3.141592653" if is_on else "0.0")
            process.stdout.write(value + "\n")
            return 0
        if wrote is not None:
            process.stderr.write(f"-sh: can't create /proc/power/relay{wrote[2]}: nonexistent directory\n")
            return 1
        if read is not None:
            process.stderr.write(
                f"cat: can't open '/proc/power/{read[1]}{read[2]}': No such file or directory\n"
            )
            return 1
        process.stderr.write(f"-sh: {command.split(maxsplit=1)[0]}: not found\n")
        return 127
