"""Plugs and relays with the Tasmota firmware, over HTTP: `/cm?cmnd=Power<n> On|Off`.

For Tasmota 6 and newer on any ESP8266 or ESP32 (Sonoff, Nous, Athom, Gosund and many more). The web server must be on
(`WebServer 2`). A password (`WebPassword`) goes in the address, as the firmware wants it: use such devices on a network of
their own. Port: the relay's number, from 1; a device with one relay has 1.

From 15.5 on the firmware hangs up on whoever does not come from its own page: so its IP address, or the host name that it
calls itself, must stand in `address`; else `SetOption128 1` lets everybody in.

    tasmota: {
      "bench-plug-1": { address: "http://10.1.2.3", password_file: "/etc/labkeeper/tasmota", ports: { "pi-01": 1 } },
    }

Manual: https://tasmota.github.io/docs/Commands/
"""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import field_validator

from consumers.powercycle_agent.drivers.confirmation import ConfirmingDriver
from consumers.powercycle_agent.drivers.errors import NotConfirmed, TurnedAway, UnknownPort
from consumers.powercycle_agent.drivers.http import AccountSettings, WebDevice
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.secrets import Secrets

_STATES: Final = {"ON": PortState.ON, "OFF": PortState.OFF}
_WANTS_LOGIN: Final = "=<"
"""In `Need user=<username>&password=<password>`, in all its translations; not in `Enable weblog 2 if response expected`."""


class TasmotaSettings(AccountSettings):
    """A Tasmota device. It is asked for a password if the entry names one; the user is `admin` unless it was compiled otherwise."""

    @field_validator("ports")
    @classmethod
    def _are_relays(cls, ports: dict[str, str]) -> dict[str, str]:
        for machine_id, port in ports.items():
            # "Power0" would switch all relays at once.
            if not re.fullmatch("[1-9][0-9]?", port):
                raise ValueError(f"port {port!r} of {machine_id} is no relay: write a number from 1")
        return ports


class TasmotaDriver(ConfirmingDriver):
    """One Tasmota device."""

    def __init__(self, settings: TasmotaSettings, secrets: Secrets) -> None:
        super().__init__(settings.address, limit_s=settings.limit_s, confirm_s=settings.confirm_s)
        self._settings = settings
        self._secrets = secrets
        self._web = WebDevice(settings)
        self._headers = {"Referer": f"{settings.address}/"}  # of its own page

    async def tell(self, port: str, wanted: PortState) -> None:
        self._state(port, await self._command(f"Power{port} {'On' if wanted is PortState.ON else 'Off'}"))

    async def status(self, port: str) -> PortState:
        return self._state(port, await self._command(f"Power{port}"))

    async def probe(self) -> None:
        await self._command("Power")

    async def close(self) -> None:
        await self._web.close()

    async def _command(self, command: str) -> dict[str, Any]:
        query = {"cmnd": command}
        if self._settings.user is not None or self._settings.names_a_password:
            login = self._settings.login(self._secrets, default_user="admin")
            if login is not None:
                query |= {"user": login.user, "password": login.password}
        answer = await self._web.request("GET", "/cm", query=query, headers=self._headers)
        said = answer.confirmed().json_object()
        warning = str(said.get("WARNING", ""))
        if _WANTS_LOGIN in warning:  # how firmware before 8.2.3 says 401
            raise TurnedAway(f"{self.device} does not let us in: check user and password")
        if warning:  # it has done what it was told
            raise NotConfirmed(
                f"{self.device} does not tell what became of {command!r}; it says {warning[:200]!r}"
            )
        return said

    def _state(self, port: str, answer: dict[str, Any]) -> PortState:
        said = answer.get(f"POWER{port}", answer.get("POWER") if port == "1" else None)
        if said is None and answer.get("Command") in ("Unknown", "Error"):
            raise UnknownPort(f"{self.device} has no relay {port}")
        if said is None:
            raise NotConfirmed(f"{self.device} does not say how relay {port} is: {str(answer)[:200]}")
        return _STATES.get(str(said).upper(), PortState.UNKNOWN)


KIND = DriverKind("tasmota", TasmotaSettings, TasmotaDriver)
