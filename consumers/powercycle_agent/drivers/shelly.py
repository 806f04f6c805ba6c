"""Shelly plugs and relays, over HTTP.

Generation 1 (Shelly 1, 1PM, 2.5, 4Pro, Plug, Plug S): `/relay/<n>`, basic authentication. Generation 2 and newer (Plus,
Pro, Gen3, Gen4): `/rpc/Switch.Set` and `/rpc/Switch.GetStatus`, digest authentication with SHA-256. With `generation: "auto"`
the device is asked which it is, at `/shelly`, which needs no password. Port: the number of the relay or switch, from 0.

    shelly: {
      "rack4-left": { address: "http://10.1.2.4", generation: 2, password_env: "SHELLY_PASSWORD", ports: { "pi-02": 0 } },
    }

Manuals: https://shelly-api-docs.shelly.cloud/gen1/ and https://shelly-api-docs.shelly.cloud/gen2/
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import field_validator

from consumers.powercycle_agent.drivers.confirmation import ConfirmingDriver
from consumers.powercycle_agent.drivers.errors import NotConfirmed, UnknownPort
from consumers.powercycle_agent.drivers.http import AccountSettings, Answer, Login, WebDevice
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.secrets import Secrets

_NOT_FOUND: Final = -105
"""Error code of the second generation for a component that is not there."""


class ShellySettings(AccountSettings):
    """A Shelly. It is sent a password if the entry names one; the user is `admin`, which only generation 1 can change."""

    generation: Literal[1, 2, "auto"] = "auto"
    """2 stands for all newer ones."""

    @field_validator("ports")
    @classmethod
    def _are_numbers(cls, ports: dict[str, str]) -> dict[str, str]:
        for machine_id, port in ports.items():
            if not (port.isascii() and port.isdigit() and len(port) < 4):
                raise ValueError(f"port {port!r} of {machine_id} is no relay: write a number from 0")
        return ports


class ShellyDriver(ConfirmingDriver):
    """One Shelly of either generation."""

    def __init__(self, settings: ShellySettings, secrets: Secrets) -> None:
        super().__init__(settings.address, limit_s=settings.limit_s, confirm_s=settings.confirm_s)
        self._settings = settings
        self._secrets = secrets
        self._anonymous = WebDevice(settings)
        # Never basic authentication for the second generation: somebody in its place would learn the password.
        self._first = WebDevice(settings, logins=self._login)
        self._second = WebDevice(settings, logins=self._login, scheme="digest")
        self._generation = settings.generation if settings.generation != "auto" else None

    async def tell(self, port: str, wanted: PortState) -> None:
        is_on = wanted is PortState.ON
        if await self._which() == 1:
            (await self._first.get(f"/relay/{port}", {"turn": wanted.value})).confirmed(port=port)
        else:
            await self._call("Switch.Set", {"id": port, "on": "true" if is_on else "false"}, port)

    async def status(self, port: str) -> PortState:
        if await self._which() == 1:
            answer = (await self._first.get(f"/relay/{port}")).confirmed(port=port).json_object()
            return _state(answer.get("ison"))
        return _state((await self._call("Switch.GetStatus", {"id": port}, port)).get("output"))

    async def probe(self) -> None:
        if await self._which() == 1:
            (await self._first.get("/status")).confirmed().json_object()
        else:
            await self._call("Shelly.GetStatus", {}, None)

    async def close(self) -> None:
        for web in (self._anonymous, self._first, self._second):
            await web.close()

    async def _which(self) -> int:
        """The generation. A device is not exchanged for another one under our feet, so it is asked once."""
        if self._generation is None:
            answer = (await self._anonymous.get("/shelly")).confirmed().json_object()
            generation = answer.get("gen", 1 if "type" in answer else None)
            if not isinstance(generation, int) or generation < 1:
                raise NotConfirmed(
                    f"{self.device} does not say which generation of Shelly it is: set generation"
                )
            self._generation = 1 if generation == 1 else 2
        return self._generation

    async def _call(self, method: str, arguments: dict[str, str], port: str | None) -> dict[str, Any]:
        answer = await self._second.get(f"/rpc/{method}", arguments)
        if port is not None and answer.status >= 400 and _error_code(answer) == _NOT_FOUND:
            raise UnknownPort(f"{self.device} has no switch {port}")
        return answer.confirmed().json_object()

    def _login(self) -> Login | None:
        if self._settings.user is None and not self._settings.names_a_password:
            return None
        return self._settings.login(self._secrets, default_user="admin")


def _state(is_on: Any) -> PortState:
    if not isinstance(is_on, bool):
        return PortState.UNKNOWN
    return PortState.ON if is_on else PortState.OFF


def _error_code(answer: Answer) -> Any:
    try:
        return answer.json_object().get("code")
    except NotConfirmed:  # an error page: told as such
        return None


KIND = DriverKind("shelly", ShellySettings, ShellyDriver)
