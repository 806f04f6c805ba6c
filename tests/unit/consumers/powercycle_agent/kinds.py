"""Kinds of controllers that tests of the configuration can have without any device."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState, PowerDriver
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.settings import ControllerSettings
from consumers.powercycle_agent.registry import Registry


class SwitchSettings(ControllerSettings):
    """Much like an EdgeSwitch's."""

    address: str
    user: str
    password: str | None = None
    password_file: str | None = None
    retries: Annotated[int, Field(ge=0, le=5)] = 0

    @model_validator(mode="after")
    def _ports_once(self) -> Self:
        for port in self.ports.values():
            if list(self.ports.values()).count(port) > 1:
                raise ValueError(f"Port '{port}' specified more than once.")
        return self


class StripSettings(ControllerSettings):
    """Has eight sockets."""

    address: str
    user: str = ""

    @model_validator(mode="after")
    def _ports_there(self) -> Self:
        for machine_id, port in self.ports.items():
            if port not in set("12345678"):
                raise ValueError(f"invalid port for {machine_id} ({port})")
        return self


class Obedient:
    """A driver that does all it is told."""

    async def on(self, port: str) -> None:
        pass

    async def off(self, port: str) -> None:
        pass

    async def status(self, port: str) -> PortState:
        return PortState.UNKNOWN

    async def probe(self) -> None:
        pass

    async def close(self) -> None:
        pass


def _open(_settings: Any, _secrets: Secrets) -> PowerDriver:
    return Obedient()


def switch(opener: Callable[[Any, Secrets], PowerDriver] = _open) -> DriverKind:
    """A switch that asks machines to reboot first."""
    return DriverKind("edgeswitch", SwitchSettings, opener, soft_reboot=True)


def strip(opener: Callable[[Any, Secrets], PowerDriver] = _open) -> DriverKind:
    """A power strip, off for 10 s."""
    return DriverKind("mpower", StripSettings, opener, off_for=timedelta(seconds=10))


def kinds() -> Registry:
    """Both."""
    return Registry({"edgeswitch": switch(), "mpower": strip()})
