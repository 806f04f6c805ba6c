"""Servers with a management controller (BMC) that speaks IPMI 2.0 over the network: Dell iDRAC, HPE iLO, Supermicro, and others.

Protocol: RMCP+ over UDP port 623, spoken by the program `ipmitool`. The password reaches it through its environment.

    ipmi: {
      "rack4-bmc7": { address: "10.0.4.107", user: "power", password_file: "/etc/labkeeper/bmc", ports: { "rack4-07": 0 } },
    }

A BMC has one port, its own machine's: `0`. The account needs the privilege Operator, and IPMI over LAN switched on.
An unknown user is met with silence by some BMCs: that looks like an unreachable one.
Manual: Intel, "IPMI Specification Second Generation v2.0", chapter 28; ipmitool(1). Tested with ipmitool 1.8.19.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator

from consumers.powercycle_agent.drivers import child
from consumers.powercycle_agent.drivers.confirmation import ConfirmingDriver, after_the_command
from consumers.powercycle_agent.drivers.errors import (
    DriverError,
    NotConfirmed,
    TurnedAway,
    UnknownPort,
    Unreachable,
)
from consumers.powercycle_agent.drivers.passwords import PasswordSettings
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.settings import Port

_PORTS: Final = ("0", "system")
_STATE: Final = re.compile(r"^Chassis Power is (on|off)$", re.MULTILINE)
_SILENT: Final = re.compile(
    r"no response from|Address lookup for|Could not open socket|Get Auth Capabilities error"
)
_TURNED_AWAY: Final = re.compile(
    r"HMAC is invalid|invalid integrity check value|unauthorized|invalid role|privilege|Invalid user name",
    re.IGNORECASE,
)


class IpmiSettings(PasswordSettings):
    """One BMC."""

    address: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[^-\s]\S*$")]
    udp_port: Annotated[int, Field(ge=1, le=65535)] = 623
    user: Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[^-\s]\S*$")]
    privilege: Literal["OPERATOR", "ADMINISTRATOR"] = "OPERATOR"
    limit_s: Annotated[float, Field(gt=0, le=300)] = 20
    confirm_s: Annotated[float, Field(gt=0, le=300)] = 10
    """Servers that write back their caches take a while."""
    cipher_suite: Annotated[int, Field(ge=1, le=17)] | None = None
    """Such as 3 or 17; by default the best that both sides know."""

    @field_validator("ports")
    @classmethod
    def _one_port(cls, ports: dict[str, Port]) -> dict[str, Port]:
        for machine_id, port in ports.items():
            if port not in _PORTS:
                raise ValueError(f"the port of {machine_id} must be 0: a BMC switches its own machine only")
        return ports


class IpmiDriver(ConfirmingDriver):
    """A `PowerDriver` for one BMC."""

    def __init__(self, settings: IpmiSettings, secrets: Secrets) -> None:
        super().__init__(f"BMC {settings.address}", limit_s=settings.limit_s, confirm_s=settings.confirm_s)
        self._settings = settings
        self._secrets = secrets

    async def tell(self, port: str, wanted: PortState) -> None:
        self._check(port)
        try:
            await self._ask(wanted.value)
        except NotConfirmed:  # some BMCs refuse to do what is so already
            if await after_the_command(self.status(port)) is not wanted:
                raise

    async def status(self, port: str) -> PortState:
        self._check(port)
        found = _STATE.search(await self._ask("status"))
        return PortState(found[1]) if found else PortState.UNKNOWN

    async def probe(self) -> None:
        await self._ask("status")

    async def close(self) -> None:
        pass

    def _check(self, port: str) -> None:
        if port not in _PORTS:
            raise UnknownPort(f"{self.device} has no port {port!r}: it is 0")

    async def _ask(self, verb: str) -> str:
        settings = self._settings
        password = settings.password_from(self._secrets, self.device)
        ended = await child.run(
            [*self._arguments(), "chassis", "power", verb],
            device=self.device,
            limit_s=settings.limit_s,
            environment=child.plain_environment(IPMI_PASSWORD=password),
            install="install ipmitool",
        )
        if ended.status != 0:
            raise self._translated(ended)
        return ended.out

    def _arguments(self) -> list[str]:
        settings = self._settings
        arguments = ["ipmitool", "-v", "-I", "lanplus", "-H", settings.address, "-p", str(settings.udp_port)]
        arguments += ["-U", settings.user, "-E", "-L", settings.privilege]
        if settings.cipher_suite is not None:
            arguments += ["-C", str(settings.cipher_suite)]
        return arguments

    def _translated(self, ended: child.Ended) -> DriverError:
        said = ended.err + ended.out
        if _SILENT.search(said):
            return Unreachable(f"{self.device} does not answer: {ended.last_words}")
        if _TURNED_AWAY.search(said):
            return TurnedAway(
                f"{self.device} does not let {self._settings.user} in: check user, password and privilege"
            )
        if "Unable to establish" in said:
            return Unreachable(f"no session with {self.device}: {ended.last_words}")
        return NotConfirmed(f"{self.device} answered with an error: {ended.last_words}")


KIND = DriverKind("ipmi", IpmiSettings, IpmiDriver)
