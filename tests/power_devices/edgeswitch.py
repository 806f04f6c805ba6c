"""Fake PoE switches: an EdgeSwitch, whose users land on its command line, and a UniFi switch, whose users land in BusyBox."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import asyncssh

from consumers.powercycle_agent.drivers.protocol import PortState
from tests.power_devices.device import Mood
from tests.power_devices.ssh_device import USER, SshDevice

_PORTS = tuple(map(str, range(1, 25)))
_SHOWN_FIRST = 22
"""Lines of a page."""
_INVALID = "{space}^\r\n% Invalid input detected at '^' marker.\r\n"


class FakeEdgeSwitch(SshDevice):
    """A command line with modes, errors and pages, one a session."""

    hostname = "UBNT EdgeSwitch"

    def __init__(self, ports: Sequence[str] = _PORTS) -> None:
        super().__init__(ports)
        self.slot = "0"
        """Of all its interfaces."""
        self.enable_password = ""
        self.pages = False
        """Whether paging cannot be switched off, and a page has three lines only."""
        self.knows_opmode = True
        """Whether there is `show poe port`."""
        self.shuts_down_after = 0
        """How often `show poe status` still has a voltage on a port that was shut down."""
        self.sessions: list[Cli] = []
        """All that there ever were."""

    async def serve(self, process: asyncssh.SSHServerProcess[str]) -> None:
        await Cli(self, process).run()
        process.exit(0)


class FakeUniFi(FakeEdgeSwitch):
    """The same command line behind `telnet` on the switch itself."""

    hostname = "UBNT"
    prompt = "US-8-150W-US.v4.3.13# "
    telnet_password = ""
    """What its telnet wants besides the user, up to three times; usually nothing."""

    async def serve(self, process: asyncssh.SSHServerProcess[str]) -> None:
        if process.command is not None:
            await self._do(process.command, process)
            process.exit(0)
            return
        process.stdout.write(
            "\r\n\r\nBusyBox v1.19.4 (2018-03-02 12:00:00 PST) built-in shell (ash)\r\n\r\n\r\n"
        )
        process.stdout.write(self.prompt)
        while (line := await read_line(process)) is not None:
            process.stdout.write(line + "\r\n")
            if line == "exit":
                break
            if line:
                await self._do(line, process)
            process.stdout.write(self.prompt)
        process.exit(0)

    async def _do(self, line: str, process: asyncssh.SSHServerProcess[str]) -> None:
        self.note(line)
        if line in ("telnet 127.0.0.1", "telnet localhost"):
            process.stdout.write(
                "\r\nEntering character mode\r\nEscape character is '^]'.\r\n\r\nWarning!\r\n"
            )
            process.stdout.write(
                "The changes may break controller settings and only be effective until reboot.\r\n"
            )
            if await self._lets_in(process):
                await Cli(self, process).run()
            process.stdout.write("Connection closed by foreign host\r\n")
        else:
            process.stdout.write(f"-sh: {line.split(maxsplit=1)[0]}: not found\r\n")

    async def _lets_in(self, process: asyncssh.SSHServerProcess[str]) -> bool:
        for _ in range(3 if self.telnet_password else 0):
            given = []
            for question in ("User:", "Password:"):
                process.stdout.write(f"\r\n{question}")
                given.append(await read_line(process))
                self.note(question)
            if given == [USER, self.telnet_password]:
                return True
        return not self.telnet_password


class Cli:
    """One session at the switch's command line. Only what is in `device.log` was typed; echoes are its own."""

    def __init__(self, device: FakeEdgeSwitch, process: asyncssh.SSHServerProcess[str]) -> None:
        self._device = device
        self._process = process
        self._modes = [f"({device.hostname}) >"]
        self._length = 3 if device.pages else _SHOWN_FIRST
        self._still_on = 0
        self._is_logged_out = False
        device.sessions.append(self)

    def log_out(self) -> None:
        """As for doing nothing for too long: what is typed next is not heard here any more."""
        self._is_logged_out = True

    async def run(self) -> None:
        """Until `exit` or `quit`, or the client hangs up."""
        self._write("\r\n")
        while self._modes:
            self._write(self._prompt)
            line = await read_line(self._process)
            if line is None or self._is_logged_out:
                return
            self._device.note(line)
            self._write(line + "\r\n")
            if self._device.mood is Mood.BABBLES:
                self._write("\x00\x1b[7m%%% core dump %%%\r\n(")
            elif line.strip():
                await self._do(line.split())
        self._modes = []

    @property
    def _prompt(self) -> str:
        return self._modes[-1]

    @property
    def _interface(self) -> str:
        """Of the mode we are in; empty outside."""
        return self._prompt.partition(f"(Interface {self._device.slot}/")[2].partition(")")[0]

    async def _do(self, words: list[str]) -> None:
        is_privileged = len(self._modes) > 1
        match words:
            case ["exit" | "quit"]:
                self._modes.pop()
            case ["enable"] if not is_privileged:
                await self._enable()
            case ["help"]:
                self._write("\r\nHELP:\r\nSpecial keys:\r\n")
            case ["terminal", "length", "0"] if is_privileged and not self._device.pages:
                self._length = 0
            case ["configure"] if len(self._modes) == 2:
                self._modes.append(f"({self._device.hostname}) (Config)#")
            case ["interface", name] if len(self._modes) == 3 and self._knows(name):
                self._modes.append(f"({self._device.hostname}) (Interface {name})#")
            case ["poe", "opmode", "auto" | "shutdown" as mode] if self._interface:
                await self._switch(PortState.ON if mode == "auto" else PortState.OFF)
            case ["show", "poe", "port", name] if is_privileged and self._device.knows_opmode:
                await self._show_port(name)
            case ["show", "poe", "status", name] if is_privileged:
                await self._show_status(name)
            case _:
                self._invalid()

    async def _switch(self, state: PortState) -> None:
        if await self._device.is_due(state):
            self._device.switch(self._interface, state)
            self._still_on = self._device.shuts_down_after

    async def _enable(self) -> None:
        if self._device.enable_password:
            self._write("Password:")
            given = await read_line(self._process)
            self._write("\r\n")
            if given != self._device.enable_password:
                self._write("Incorrect Password!\r\n\r\n")
                return
        self._modes.append(f"({self._device.hostname}) #")

    async def _show_port(self, name: str) -> None:
        await self._show(
            [
                "",
                "        OP               HP      HP      Detect  Disconnect Class",
                "Intf      Mode             Enable  Mode    Enable  Enable     Enable",
                "--------- ---------------- ------- ------- ------- ---------- -------",
            ],
            name,
            lambda port, is_on: (
                f"{port:<9} {'Auto' if is_on else 'Shutdown':<16} Enable  802.3at Enable  Enable     Enable"
            ),
        )

    async def _show_status(self, name: str) -> None:
        self._still_on -= 1
        still_on = self._still_on >= 0

        def row(port: str, is_on: bool) -> str:
            if is_on or still_on:
                return f"{port:<9} {'Good':<14} {'Class4':<7} {'5.31':>11} {'52.37':>10} {'101.44':>11} {'43':>14}"
            return (
                f"{port:<9} {'Disabled':<14} {'Unknown':<7} {'0.00':>11} {'0.00':>10} {'0.00':>11} {'43':>14}"
            )

        await self._show(
            [
                "",
                "Intf      Detection      Class   Consumed(W) Voltage(V) Current(mA) Temperature(C)",
                "--------- -------------- ------- ----------- ---------- ----------- --------------",
            ],
            name,
            row,
        )

    async def _show(self, head: list[str], name: str, row: Callable[[str, bool], str]) -> None:
        known = list(self._device.states) if name == "all" else [name.partition("/")[2]]
        if name != "all" and not self._knows(name):
            self._invalid()
            return
        rows = [
            row(f"{self._device.slot}/{port}", self._device.states[port] is PortState.ON) for port in known
        ]
        await self._page([*head, *rows, "", ""])

    async def _page(self, lines: list[str]) -> None:
        for number, line in enumerate(lines, 1):
            self._write(line + "\r\n")
            if self._length and number % self._length == 0 and number < len(lines):
                self._write("--More-- or (q)uit")
                if await self._process.stdin.read(1) in ("q", ""):
                    break
                self._write("\r" + " " * 18 + "\r")

    def _knows(self, name: str) -> bool:
        slot, _, port = name.partition("/")
        return slot == self._device.slot and port in self._device.states

    def _invalid(self) -> None:
        self._write(_INVALID.format(space=" " * len(self._prompt)))

    def _write(self, text: str) -> None:
        self._process.stdout.write(text)


async def read_line(process: asyncssh.SSHServerProcess[str]) -> str | None:
    """What is typed up to Return, which is not part of it; None when the client hung up."""
    line = ""
    while (key := await process.stdin.read(1)) not in ("\r", "\n"):
        if not key:
            return None
        line += key
    return line
