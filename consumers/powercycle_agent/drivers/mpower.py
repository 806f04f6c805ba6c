"""Ubiquiti mFi mPower strips: a BusyBox shell over SSH, and a file per relay.

The strips' SSH server knows only algorithms that are no longer thought safe, so `legacy_ssh` is on. The login is by the keys
of the agent's user, as it was with the old agent; a key file or a password may be named instead.

    mpower: {
      "rack-1": { address: "10.1.1.2", user: "ubnt", ports: { "pi-01": 1 } },
    }

Written after published recordings of mPower Pro strips with firmware 2.1; not run on hardware.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Final

import asyncssh
from pydantic import model_validator

from consumers.powercycle_agent.drivers.confirmation import confirm
from consumers.powercycle_agent.drivers.errors import NotConfirmed, UnknownPort
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.ssh import SshLink, run
from consumers.powercycle_agent.drivers.ssh_settings import SshSettings

_PORTS: Final = frozenset(str(number) for number in range(1, 9))
_STATES: Final = {"0": PortState.OFF, "1": PortState.ON}
_NO_SUCH_FILE: Final = ("no such file", "can't open", "can't create", "nonexistent")
_SHOWN: Final = 200


class MPowerSettings(SshSettings):
    """One strip."""

    legacy_ssh: bool = True

    @model_validator(mode="after")
    def _ports_exist(self) -> MPowerSettings:
        for machine_id, port in self.ports.items():
            if port not in _PORTS:
                raise ValueError(f"invalid port for {machine_id} ({port})")
        return self


class MPowerDriver:
    """One strip."""

    def __init__(self, settings: MPowerSettings, secrets: Secrets) -> None:
        self._target = settings.target
        self._confirm_s = settings.confirm_s
        self._link = SshLink(settings, secrets, _itself, needs_password=False)

    async def on(self, port: str) -> None:
        """Close the relay."""
        await self._link.call(lambda connection: self._switch(connection, port, PortState.ON))

    async def off(self, port: str) -> None:
        """Open the relay."""
        await self._link.call(lambda connection: self._switch(connection, port, PortState.OFF))

    async def status(self, port: str) -> PortState:
        """What the relay's file says."""
        return await self._link.call(lambda connection: self._relay(connection, port))

    async def probe(self) -> None:
        """Read how much power the first port draws."""
        await self._link.call(self._read_power)

    async def close(self) -> None:
        """Hang up."""
        await self._link.close()

    async def _switch(self, connection: asyncssh.SSHClientConnection, port: str, state: PortState) -> None:
        value = "1" if state is PortState.ON else "0"
        await self._run(connection, f"echo {value} > {_file(port)}", port)
        await confirm(
            partial(self._relay, connection), port, state, device=self._target, within_s=self._confirm_s
        )

    async def _relay(self, connection: asyncssh.SSHClientConnection, port: str) -> PortState:
        answer = await self._run(connection, f"cat {_file(port)}", port)
        state = _STATES.get(answer)
        if state is None:
            raise NotConfirmed(
                f"{self._target} answers {answer[:_SHOWN]!r} for relay {port}, neither 0 nor 1"
            )
        return state

    async def _read_power(self, connection: asyncssh.SSHClientConnection) -> None:
        status, answer = await run(connection, "cat /proc/power/active_pwr1")
        try:
            float(answer)
        except ValueError:
            status = status or 1
        if status != 0:
            said = answer.strip()[:_SHOWN]
            raise NotConfirmed(f"performing smoke test on mpower {self._target}; output: {said}")

    async def _run(self, connection: asyncssh.SSHClientConnection, command: str, port: str) -> str:
        if port not in _PORTS:  # what goes into a shell is ours
            raise UnknownPort(f"{self._target} has no port {port}: they are 1 to 8")
        status, answer = await run(connection, command)
        answer = answer.strip()
        if status == 0:
            return answer
        if any(sign in answer.lower() for sign in _NO_SUCH_FILE):
            raise UnknownPort(f"{self._target} has no port {port}: {answer[:_SHOWN]}")
        raise NotConfirmed(f"{self._target} answers {command!r} with status {status}: {answer[:_SHOWN]}")


async def _itself(connection: asyncssh.SSHClientConnection) -> asyncssh.SSHClientConnection:
    return connection


def _file(port: str) -> str:
    return f"/proc/power/relay{port}"


KIND: Final = DriverKind(
    name="mpower", settings=MPowerSettings, open=MPowerDriver, off_for=timedelta(seconds=10)
)
