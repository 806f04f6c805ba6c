"""Raritan (Legrand) PX2, PX3, PX4 and PXC rack PDUs, and Server Technology PDUs with the same firmware.

Protocol: SNMP, PDU2-MIB: switchingOperation and outletSwitchingState in outletSwitchControlTable. Needs the extra `snmp`.

    raritan: {
      "rack5": { address: "10.0.5.20", version: "3", user: "lab", auth: "sha256", priv: "aes128",
                 auth_password_file: "/etc/labkeeper/px-auth", priv_password_file: "/etc/labkeeper/px-priv",
                 ports: { "rack5-01": 1, "rack5-30": "2.6" } },
    }

The port is the outlet's number, or `<PDU>.<outlet>` on PDUs that are linked. SNMP set must be switched on in the device.
Manual: Raritan, "PX3 User Guide", chapter "Using SNMP"; PDU2-MIB.
"""

from __future__ import annotations

import re
from typing import Final

from pydantic import field_validator

from consumers.powercycle_agent.drivers.errors import UnknownPort
from consumers.powercycle_agent.drivers.protocol import DriverKind
from consumers.powercycle_agent.drivers.settings import Port
from consumers.powercycle_agent.drivers.snmp_outlets import Outlets, SnmpSettings, checked, column, opener

_SWITCHING: Final = "1.3.6.1.4.1.13742.6.4.1.2.1"
_PORT: Final = re.compile(r"(?:([1-9]\d?)\.)?([1-9]\d{0,2})")


def index(port: str) -> str:
    """Raises `UnknownPort`."""
    found = _PORT.fullmatch(port)
    if found is None:
        raise UnknownPort(f"{port!r} is no outlet: write its number, or <PDU>.<outlet>")
    return f"{found[1] or 1}.{found[2]}"


_OUTLETS: Final = Outlets(
    command=column(f"{_SWITCHING}.2", index),
    state=column(f"{_SWITCHING}.3", index),
    on=1,
    off=0,
    says_on=frozenset({7}),  # SensorStateEnumeration, as all states of this MIB
    says_off=frozenset({8}),
)


class RaritanSettings(SnmpSettings):
    """One PDU, or several that are linked."""

    @field_validator("ports")
    @classmethod
    def _are_outlets(cls, ports: dict[str, Port]) -> dict[str, Port]:
        return checked(ports, index)


KIND = DriverKind("raritan", RaritanSettings, opener(lambda _: _OUTLETS))
