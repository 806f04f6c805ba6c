"""Ubiquiti EdgeSwitch and UniFi PoE switches: power over Ethernet by the switch's command line, over SSH.

An EdgeSwitch greets with its command line. A UniFi switch greets with a shell, and has the same command line behind
`telnet 127.0.0.1`: every session of ours takes that way where it must, for commands as for probes.

A port is on or off by its operation mode in `show poe port`. Off is only confirmed when, besides, `show poe status` has no
voltage on it: switches take a moment. What is set lasts until the switch restarts: nothing is written to its flash.

    edgeswitch: {
      "rack-1": { address: "10.1.1.3", user: "ubnt", password_file: "/etc/labkeeper/rack-1", ports: { "pi-01": 1 } },
    }

Written after the EdgeSwitch CLI Command Reference and published recordings of ES-24-250W and US-8-150W; not run on
hardware.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Final

import asyncssh
from pydantic import Field, SecretStr, model_validator

from consumers.powercycle_agent.drivers.confirmation import confirm
from consumers.powercycle_agent.drivers.errors import NotConfirmed, TurnedAway, UnknownPort
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.ssh import SshLink
from consumers.powercycle_agent.drivers.ssh_settings import SshSettings
from consumers.powercycle_agent.drivers.terminal import (
    CLI_PROMPT,
    QUESTION,
    SHELL_PROMPT,
    Answer,
    Terminal,
    shown,
    table,
)

_POWERED_VOLTS: Final = 10.0
_SHUT: Final = ("disabled", "shutdown")
"""Detection of a port that is off, where `show poe port` is not known."""
_INTERFACE: Final = re.compile("[0-9]+/[0-9]+")
_PORT: Final = re.compile("[1-9][0-9]{0,2}")
_MODES: Final = {PortState.ON: "auto", PortState.OFF: "shutdown"}
_ERROR: Final = re.compile(
    r"(?im)^\s*(% ?(invalid|incomplete|ambiguous|error|unrecogni[sz]ed)"
    r"|error\b|command not found|invalid |incomplete |ambiguous )"
)


class EdgeSwitchSettings(SshSettings):
    """One switch."""

    enable_password: SecretStr | None = None
    """What the switch asks for after `enable`; by default the login's password."""
    slot: Annotated[int, Field(ge=0, le=64)] = 0
    """Of the interfaces: `0/<port>`."""

    @model_validator(mode="after")
    def _ports_are_told_apart(self) -> EdgeSwitchSettings:
        seen: set[str] = set()
        for machine_id, port in self.ports.items():
            if not _PORT.fullmatch(port):
                raise ValueError(f"invalid port for {machine_id} ({port})")
            if port in seen:
                raise ValueError(f"Port '{port}' specified more than once.")
            seen.add(port)
        return self


class EdgeSwitchDriver:
    """One switch. Its command line is kept open between calls, behind `enable`."""

    def __init__(self, settings: EdgeSwitchSettings, secrets: Secrets) -> None:
        self._settings = settings
        self._secrets = secrets
        self._link = SshLink(settings, secrets, self._log_in, needs_password=True)

    async def on(self, port: str) -> None:
        """`poe opmode auto`."""
        await self._link.call(lambda switch: switch.set(port, PortState.ON))

    async def off(self, port: str) -> None:
        """`poe opmode shutdown`."""
        await self._link.call(lambda switch: switch.set(port, PortState.OFF))

    async def status(self, port: str) -> PortState:
        """The port's operation mode; unknown while it is shut down and there is still a voltage."""
        return await self._link.call(lambda switch: switch.state(port))

    async def probe(self) -> None:
        """Look at all ports."""
        await self._link.call(lambda switch: switch.look_around())

    async def close(self) -> None:
        """Hang up."""
        await self._link.close()

    async def _log_in(self, connection: asyncssh.SSHClientConnection) -> SwitchCli:
        process = await connection.create_process(
            term_type="vt100", term_size=(200, 100), encoding=None, stderr=asyncssh.STDOUT
        )
        switch = SwitchCli(self._settings, self._secrets, Terminal(self._settings.target, process))
        await switch.enter()
        return switch


class SwitchCli:
    """The switch's command line. Between calls it waits at the prompt behind `enable`."""

    def __init__(self, settings: EdgeSwitchSettings, secrets: Secrets, terminal: Terminal) -> None:
        self._settings = settings
        self._secrets = secrets
        self._terminal = terminal
        self._target = settings.target

    async def enter(self) -> None:
        """From whatever greets us to the prompt behind `enable`, and switch paging off."""
        answer = await self._terminal.read()
        if not CLI_PROMPT.fullmatch(answer.prompt) and SHELL_PROMPT.fullmatch(answer.prompt):
            answer = await self._terminal.say("telnet 127.0.0.1")
        answer = await self._log_in(answer, self._password)
        if not CLI_PROMPT.fullmatch(answer.prompt):
            raise NotConfirmed(f"{self._target} has no command line of a switch: {shown(answer.text)}")
        if answer.prompt.endswith(">"):
            answer = await self._log_in(await self._terminal.say("enable"), self._enable_password)
        if not answer.prompt.endswith("#"):
            raise TurnedAway(
                f"{self._target} does not let us past `enable`: check enable_password; it says: {shown(answer.text)}"
            )
        await self._terminal.say("terminal length 0")  # where it is not known, pages are turned

    async def set(self, port: str, wanted: PortState) -> None:
        """Set the port's mode, and read it back."""
        interface = self._interface(port)
        await self._command("configure")
        answer = await self._terminal.say(f"interface {interface}")
        if f"(interface {interface})" not in answer.prompt.lower():
            raise UnknownPort(f"{self._target} has no interface {interface}: {shown(answer.text)}")
        await self._command(f"poe opmode {_MODES[wanted]}")
        await self._command("exit")
        await self._command("exit")
        await confirm(self.state, port, wanted, device=self._target, within_s=self._settings.confirm_s)

    async def state(self, port: str) -> PortState:
        """What the switch says of the port: unknown while it is shut down but has a voltage."""
        interface = self._interface(port)
        mode = (await self._row(f"show poe port {interface}", interface)).get("Mode", "").lower()
        if mode and mode != _MODES[PortState.OFF]:
            return PortState.ON
        supply = await self._row(f"show poe status {interface}", interface)
        if not mode and not supply:
            raise UnknownPort(f"{self._target} has no PoE on {interface}")
        if not mode and supply.get("Detection", "").lower() not in _SHUT:
            return PortState.ON if "Detection" in supply else PortState.UNKNOWN
        return PortState.UNKNOWN if _volts(supply) > _POWERED_VOLTS else PortState.OFF

    async def look_around(self) -> None:
        """Raises `NotConfirmed` if there is no PoE here."""
        text = await self._command("show poe status all")
        if not any(_INTERFACE.fullmatch(row.get("Intf", "")) for row in table(text)):
            raise NotConfirmed(f"smoke test on edge switch {self._target} failed; output: {shown(text)}")

    async def _row(self, command: str, interface: str) -> dict[str, str]:
        """Of the table that a command shows; empty if there is none, or the command is not known."""
        answer = await self._privileged(command)
        return next((row for row in table(answer.text) if row.get("Intf") == interface), {})

    async def _command(self, line: str) -> str:
        answer = await self._privileged(line)
        if _ERROR.search(answer.text):
            raise NotConfirmed(f"{self._target} answers {line!r}: {shown(answer.text)}")
        return answer.text

    async def _privileged(self, line: str) -> Answer:
        answer = await self._terminal.say(line)
        if not (CLI_PROMPT.fullmatch(answer.prompt) and answer.prompt.endswith("#")):
            raise NotConfirmed(f"{self._target} left its command line at {line!r}: {shown(answer.text)}")
        return answer

    async def _log_in(self, answer: Answer, password: Callable[[], str]) -> Answer:
        """Answer what may be asked, each question once."""
        asked = set()
        while question := QUESTION.fullmatch(answer.prompt):
            if question.lastgroup in asked:
                raise TurnedAway(f"{self._target} refuses the password at its command line")
            asked.add(question.lastgroup)
            answer = await self._terminal.say(
                self._settings.user if question.lastgroup == "user" else password()
            )
        return answer

    def _password(self) -> str:
        return self._settings.password_from(self._secrets, self._target)

    def _enable_password(self) -> str:
        given = self._settings.enable_password
        return given.get_secret_value() if given else self._password()

    def _interface(self, port: str) -> str:
        if not _PORT.fullmatch(port):  # what is typed is ours
            raise UnknownPort(f"{self._target} has no port {port}: they are numbers")
        return f"{self._settings.slot}/{port}"


def _volts(supply: dict[str, str]) -> float:
    try:
        return float(supply.get("Voltage(V)", "0"))
    except ValueError:
        return 0.0


KIND: Final = DriverKind(
    name="edgeswitch",
    settings=EdgeSwitchSettings,
    open=EdgeSwitchDriver,
    off_for=timedelta(seconds=5),
    soft_reboot=True,
)
