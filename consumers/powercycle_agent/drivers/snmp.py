"""Any device that switches ports by a number in its MIB: PDUs, PoE switches, relay boards.

Protocol: SNMP 1, 2c or 3 over UDP port 161. Needs the extra `snmp`.

    snmp: {
      "poe7": {
        address: "10.0.4.7", community_file: "/etc/labkeeper/poe7",
        oid: "1.3.6.1.2.1.105.1.1.1.3.1.{port}", on: 1, off: 2,      // POWER-ETHERNET-MIB, pethPsePortAdminEnable
        ports: { "rack4-07": 7 },
      },
      "relay": { address: "10.0.4.8", version: "3", user: "lab", priv: "aes128", on: 1, off: 0,
                 ports: { "rack4-08": "1.3.6.1.4.1.19865.1.2.1.1.0" } },
    }

`oid` is where a port is set, and where it is read unless `state_oid` says otherwise; `{port}` becomes the machine's port. Without
`oid` each port is an OID. `says_on` and `says_off` list what may be read, by default what is written.
Manual: the device's MIB file.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from consumers.powercycle_agent.drivers.errors import UnknownPort
from consumers.powercycle_agent.drivers.protocol import DriverKind
from consumers.powercycle_agent.drivers.snmp_outlets import Outlets, SnmpSettings, opener

_OID: Final = re.compile(r"\d{1,10}(\.\d{1,10}){3,100}")
_INDEX: Final = re.compile(r"\d{1,10}(\.\d{1,10}){0,20}")
Template = Annotated[str, Field(pattern=r"^\d{1,10}(\.(\d{1,10}|\{port\})){3,100}$")]


class GenericSnmpSettings(SnmpSettings):
    """Where the ports are, and what is written and read there."""

    oid: Template | None = None
    state_oid: Template | None = None
    on: int
    off: int
    says_on: Annotated[frozenset[int], Field(min_length=1)] | None = None
    says_off: Annotated[frozenset[int], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.oid is None and self.state_oid is not None:
            raise ValueError("state_oid needs an oid with {port} as well")
        for template in filter(None, (self.oid, self.state_oid)):
            if "{port}" not in template:
                raise ValueError("oid and state_oid must hold {port}")
        if outlets(self).says_on & outlets(self).says_off:
            raise ValueError("what is read must tell on from off: set says_on and says_off")
        wanted, what = (_OID, "an OID") if self.oid is None else (_INDEX, "numbers with dots between")
        for machine_id, port in self.ports.items():
            if not wanted.fullmatch(port):
                raise ValueError(f"the port of {machine_id} must be {what}")
        return self


def outlets(settings: GenericSnmpSettings) -> Outlets:
    """Where this device's ports are."""

    def at(template: str | None, port: str) -> str:
        oid = port if template is None else template.replace("{port}", port)
        if not _OID.fullmatch(oid):
            raise UnknownPort(f"{settings.address} (SNMP) has no port {port!r}")
        return oid

    return Outlets(
        command=lambda port: at(settings.oid, port),
        state=lambda port: at(settings.state_oid or settings.oid, port),
        on=settings.on,
        off=settings.off,
        says_on=settings.says_on or frozenset({settings.on}),
        says_off=settings.says_off or frozenset({settings.off}),
    )


KIND = DriverKind("snmp", GenericSnmpSettings, opener(outlets))
