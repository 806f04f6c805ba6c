"""Synaccess netBooter power distribution units, over HTTP: `/cmd.cgi?$A3 <outlet> <1|0>`, and `$A5` for the states.

For the NP and NPB series with the legacy command interface. Port: the outlet's number, from 1. An entry that names no
password logs in with the factory's, `admin`/`admin`, as it always was: change it at the device, and name the new one.
Older units know HTTP only: keep them on a network of their own.

    synaccess: {
      "rack-4": { address: "http://10.1.2.4", password_file: "/etc/labkeeper/rack-4", ports: { "pi-01": 1 } },
    }

Manual: netBooter user's guide, "HTTP commands". What `$A5` answers begins with `$A0` on some firmware and not on other.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from pydantic import field_validator

from consumers.powercycle_agent.drivers.confirmation import ConfirmingDriver
from consumers.powercycle_agent.drivers.errors import NotConfirmed, NotReached, UnknownPort, Unreachable
from consumers.powercycle_agent.drivers.http import AccountSettings, Login, WebDevice
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.secrets import Secrets

_FACTORY: Final = "admin"
_PORT: Final = re.compile("[1-9][0-9]?")
_STATES: Final = re.compile(r"(?:\$A0[,\s]+)?([01]{1,99})(?:,[^\n]*)?")
"""One digit for each outlet; the first outlet is the rightmost."""
_DONE: Final = "$A0"
_SHOWN: Final = 200


class SynaccessSettings(AccountSettings):
    """One unit."""

    @field_validator("ports")
    @classmethod
    def _are_outlets(cls, ports: dict[str, str]) -> dict[str, str]:
        for machine_id, port in ports.items():
            if not _PORT.fullmatch(port):
                raise ValueError(f"port {port!r} of {machine_id} is no outlet: write a number from 1")
        return ports


class SynaccessDriver(ConfirmingDriver):
    """One unit."""

    def __init__(self, settings: SynaccessSettings, secrets: Secrets) -> None:
        super().__init__(settings.address, limit_s=settings.limit_s, confirm_s=settings.confirm_s)
        self._settings = settings
        self._secrets = secrets
        self._web = WebDevice(settings, logins=self._login)

    async def tell(self, port: str, wanted: PortState) -> None:
        if not _PORT.fullmatch(port):
            raise UnknownPort(f"{self.device} has no outlet {port}: they are numbers from 1")
        said = await self._command(f"$A3%20{port}%20{1 if wanted is PortState.ON else 0}")
        if not said.startswith(_DONE):
            await self._look_for(port)
            raise NotConfirmed(
                f"{self.device} did not turn outlet {port} {wanted}; it says {said[:_SHOWN]!r}"
            )

    async def status(self, port: str) -> PortState:
        states = await self._states()
        if not _PORT.fullmatch(port) or int(port) > len(states):
            raise UnknownPort(f"{self.device} has no outlet {port}: it has {len(states)}")
        return PortState.ON if states[-int(port)] == "1" else PortState.OFF

    async def probe(self) -> None:
        await self._states()

    async def close(self) -> None:
        await self._web.close()

    async def _look_for(self, port: str) -> None:
        """Raises `UnknownPort` if there is no such outlet. What the unit was told before, it may have understood."""
        try:
            await self.status(port)
        except NotReached as error:
            raise Unreachable(str(error)) from error

    async def _states(self) -> str:
        said = await self._command("$A5")
        match = _STATES.fullmatch(said)
        if match is None:
            raise NotConfirmed(f"{self.device} does not tell its outlets' states; it says {said[:_SHOWN]!r}")
        return match[1]

    async def _command(self, command: str) -> str:
        return (await self._web.get(f"/cmd.cgi?{command}")).confirmed().text.strip()

    def _login(self) -> Login | None:
        if self._settings.names_a_password:
            return self._settings.login(self._secrets, default_user=_FACTORY)
        return Login(self._settings.user or _FACTORY, _FACTORY)


KIND: Final = DriverKind(
    name="synaccess", settings=SynaccessSettings, open=SynaccessDriver, off_for=timedelta(seconds=10)
)
