"""Plugs and relays with the ESPHome firmware, over the REST API of its `web_server` component.

For ESPHome 1.15 and newer. The device wants basic or digest authentication as its platform has it; both are done. Port: the
id at the end of the entity's address, such as `relay_1` for `/switch/relay_1`; firmware of 2026 and newer also takes the name.

    esphome: {
      "bench-plug-2": { address: "http://plug2.lab", user: "admin", password_env: "ESPHOME_PASSWORD", ports: { "pi-04": "relay_1" } },
    }

Manual: https://esphome.io/web-api/
"""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import quote

from consumers.powercycle_agent.drivers.confirmation import ConfirmingDriver
from consumers.powercycle_agent.drivers.http import AccountSettings, WebDevice
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.secrets import Secrets

_STATES: Final = {"ON": PortState.ON, "OFF": PortState.OFF}


class EsphomeSettings(AccountSettings):
    """An ESPHome device. It is sent a password if the entry names a user."""

    component: Literal["switch", "light", "fan"] = "switch"
    """What the ports are in the device's configuration."""


class EsphomeDriver(ConfirmingDriver):
    """One ESPHome device."""

    def __init__(self, settings: EsphomeSettings, secrets: Secrets) -> None:
        super().__init__(settings.address, limit_s=settings.limit_s, confirm_s=settings.confirm_s)
        self._component = settings.component
        self._web = WebDevice(settings, logins=lambda: settings.login(secrets), scheme="either")

    async def tell(self, port: str, wanted: PortState) -> None:
        path = f"{self._path(port)}/turn_{wanted.value}"
        (await self._web.request("POST", path)).confirmed(port=port)

    async def status(self, port: str) -> PortState:
        answer = (await self._web.get(self._path(port))).confirmed(port=port).json_object()
        return _STATES.get(str(answer.get("state")), PortState.UNKNOWN)

    async def probe(self) -> None:
        (await self._web.get("/")).confirmed()

    async def close(self) -> None:
        await self._web.close()

    def _path(self, port: str) -> str:
        return f"/{self._component}/{quote(port, safe='')}"


KIND = DriverKind("esphome", EsphomeSettings, EsphomeDriver)
