"""What all SNMP drivers share: how an entry says who we are, where outlets are found in a MIB, and how one is switched.

SNMP runs over UDP. A wrong community of versions 1 and 2c is met with silence, so it looks like a device out of reach.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import Field, SecretStr, model_validator

from consumers.powercycle_agent.drivers.confirmation import ConfirmingDriver
from consumers.powercycle_agent.drivers.errors import NotInstalled, TurnedAway, UnknownPort
from consumers.powercycle_agent.drivers.limits import LimitedSettings, within
from consumers.powercycle_agent.drivers.protocol import PortState
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.settings import Port

if TYPE_CHECKING:
    from consumers.powercycle_agent.drivers.snmp_session import SnmpSession

_UPTIME: Final = "1.3.6.1.2.1.1.3.0"
"""SNMPv2-MIB::sysUpTime.0, which every agent has."""

Secret = Annotated[SecretStr, Field(min_length=1)]
Oid = Annotated[str, Field(pattern=r"^\d{1,10}(\.\d{1,10}){3,100}$")]


class SnmpSettings(LimitedSettings):
    """How to reach a device with SNMP, and who we are there. Secrets are better kept in a file or in the environment."""

    address: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^\S+$")]
    udp_port: Annotated[int, Field(ge=1, le=65535)] = 161
    version: Literal["1", "2c", "3"] = "2c"
    community: Secret | None = None
    """Versions 1 and 2c: one that may write."""
    community_file: str | None = None
    community_env: str | None = None
    """Name of the environment variable; `POWERCYCLE_PASSWORD` by default, as for the two passwords."""
    user: Annotated[str, Field(min_length=1, max_length=32)] | None = None
    """Version 3."""
    auth: Literal["md5", "sha1", "sha224", "sha256", "sha384", "sha512"] = "sha1"
    auth_password: Secret | None = None
    auth_password_file: str | None = None
    auth_password_env: str | None = None
    priv: Literal["des", "aes128", "aes192", "aes256"] | None = None
    """Not given: requests are authentic, but anybody on the way can read them."""
    priv_password: Secret | None = None
    priv_password_file: str | None = None
    priv_password_env: str | None = None
    answer_s: Annotated[float, Field(ge=0.1, le=60)] = 1.5
    """Seconds until a question is repeated; datagrams get lost."""
    repeats: Annotated[int, Field(ge=0, le=10)] = 2

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if (self.version == "3") != (self.user is not None):
            raise ValueError("version 3, and only it, needs a user")
        strange = ("community",) if self.version == "3" else ("auth", "priv")
        for key in self.model_fields_set:
            if key.startswith(strange):
                raise ValueError(f"{key} is of no use with version {self.version}")
        return self


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where a device keeps its outlets. Functions raise `UnknownPort` for a port that cannot be one."""

    command: Callable[[str], str]
    """OID that takes `on` and `off`."""
    state: Callable[[str], str]
    """OID that answers one of `says_on` and `says_off`; anything else is neither."""
    on: int
    off: int
    says_on: frozenset[int]
    says_off: frozenset[int]


class SnmpDriver(ConfirmingDriver):
    """A `PowerDriver` for outlets in a MIB."""

    def __init__(self, settings: SnmpSettings, secrets: Secrets, outlets: Outlets) -> None:
        """Raises `NotInstalled`."""
        super().__init__(f"{settings.address} (SNMP)", limit_s=settings.limit_s, confirm_s=settings.confirm_s)
        self._outlets = outlets
        self._session = _session(settings, secrets, self.device)

    async def tell(self, port: str, wanted: PortState) -> None:
        await self.status(port)  # knows the port from one that may not be written
        value = self._outlets.on if wanted is PortState.ON else self._outlets.off
        await self._session.set(self._outlets.command(port), value)

    async def status(self, port: str) -> PortState:
        oid = self._outlets.state(port)
        async with within(self._limit_s, self.device):
            value = await self._session.get(oid)
        if value is None:
            raise UnknownPort(f"{self.device} has no port {port}: there is nothing at {oid}")
        if value in self._outlets.says_on:
            return PortState.ON
        return PortState.OFF if value in self._outlets.says_off else PortState.UNKNOWN

    async def probe(self) -> None:
        async with within(self._limit_s, self.device):
            await self._session.get(_UPTIME)

    async def close(self) -> None:
        await self._session.close()


def column(oid: str, index: Callable[[str], str]) -> Callable[[str], str]:
    """OIDs of a table's column: `oid`, and the port's index."""
    return lambda port: f"{oid}.{index(port)}"


def outlet_number(port: str) -> str:
    """The index of an outlet that is simply counted. Raises `UnknownPort`."""
    if not re.fullmatch(r"[1-9]\d{0,3}", port):
        raise UnknownPort(f"{port!r} is no outlet: write its number, from 1")
    return port


def checked(ports: dict[str, Port], index: Callable[[str], str]) -> dict[str, Port]:
    """For validators of `ports`. Raises `ValueError`."""
    for machine_id, port in ports.items():
        try:
            index(port)
        except UnknownPort as error:
            raise ValueError(f"the port of {machine_id}: {error}") from error
    return ports


def password(settings: SnmpSettings, secrets: Secrets, name: str, what: str) -> str:
    """One of `community`, `auth_password` and `priv_password`. Raises `TurnedAway` when there is none."""
    given: SecretStr | None = getattr(settings, name)
    found = secrets.password(
        given=given.get_secret_value() if given else None,
        file=getattr(settings, f"{name}_file"),
        variable=getattr(settings, f"{name}_env"),
        what=f"{name} of {what}",
    )
    if name != "community" and len(found) < 8:
        raise TurnedAway(f"{name} of {what} is too short: SNMP version 3 wants 8 characters or more")
    return found


def _session(settings: SnmpSettings, secrets: Secrets, device: str) -> SnmpSession:
    try:
        from consumers.powercycle_agent.drivers.snmp_session import SnmpSession  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise NotInstalled("SNMP needs the package pysnmp: pip install 'labkeeper[snmp]'") from error
    return SnmpSession(settings, secrets, device)


def opener(outlets: Callable[[Any], Outlets]) -> Callable[[Any, Secrets], SnmpDriver]:
    """`DriverKind.open` of a kind whose settings tell where its outlets are."""
    return lambda settings, secrets: SnmpDriver(settings, secrets, outlets(settings))
