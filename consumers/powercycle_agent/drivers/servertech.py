"""Server Technology (Legrand) switched CDUs and PDUs.

Protocol: SNMP. Needs the extra `snmp`. `mib` chooses by the firmware: `sentry4` (8.x: PRO1, PRO2): Sentry4-MIB,
st4OutletControlAction and st4OutletState; `sentry3` (7.x and older: Sentry Switched CDU): Sentry3-MIB, outletControlAction and
outletStatus.

    servertech: {
      "rack6": { address: "10.0.6.20", mib: "sentry4", community_file: "/etc/labkeeper/cdu", ports: { "rack6-01": "AA1" } },
    }

The port is the outlet's id as printed on the unit: unit or tower, cord or infeed, number (`AA1`), or `1.1.1`; a bare number is
an outlet of `AA`. Outlets take a moment that the unit's sequence interval may prolong: `confirm_s` waits for them.
Manual: Server Technology, "Sentry Switched CDU Installation and Operations Manual"; Sentry3-MIB, Sentry4-MIB.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from pydantic import field_validator

from consumers.powercycle_agent.drivers.errors import UnknownPort
from consumers.powercycle_agent.drivers.protocol import DriverKind
from consumers.powercycle_agent.drivers.settings import Port
from consumers.powercycle_agent.drivers.snmp_outlets import Outlets, SnmpSettings, checked, column, opener

_SERVERTECH: Final = "1.3.6.1.4.1.1718"
_NUMBERS: Final = re.compile(r"(?:([1-9])\.([1-9])\.)?([1-9]\d{0,2})")
_PRINTED: Final = re.compile(r"([A-F])([A-F])([1-9]\d{0,2})")


def index(port: str) -> str:
    """Raises `UnknownPort`."""
    if found := _NUMBERS.fullmatch(port):
        return f"{found[1] or 1}.{found[2] or 1}.{found[3]}"
    if found := _PRINTED.fullmatch(port):
        unit, cord = (ord(letter) - ord("A") + 1 for letter in (found[1], found[2]))
        return f"{unit}.{cord}.{found[3]}"
    raise UnknownPort(f"{port!r} is no outlet: write its id, such as AA1")


_MIBS: Final = {
    "sentry4": Outlets(
        command=column(f"{_SERVERTECH}.4.1.8.5.1.2", index),
        state=column(f"{_SERVERTECH}.4.1.8.3.1.1", index),
        on=1,
        off=2,
        says_on=frozenset({1}),
        says_off=frozenset({2}),
    ),
    "sentry3": Outlets(
        command=column(f"{_SERVERTECH}.3.2.3.1.11", index),
        state=column(f"{_SERVERTECH}.3.2.3.1.5", index),
        on=1,
        off=2,
        says_on=frozenset({1}),
        says_off=frozenset({0}),  # 2 and 3 are on the way; 4 and above: errors, blown fuses, no communication
    ),
}


class ServertechSettings(SnmpSettings):
    """One unit, with those that are linked to it."""

    mib: Literal["sentry4", "sentry3"] = "sentry4"

    @field_validator("ports")
    @classmethod
    def _are_outlets(cls, ports: dict[str, Port]) -> dict[str, Port]:
        return checked(ports, index)


KIND = DriverKind("servertech", ServertechSettings, opener(lambda settings: _MIBS[settings.mib]))
