"""APC (Schneider Electric) rack PDUs with switched outlets.

Protocol: SNMP, PowerNet-MIB. Needs the extra `snmp`. `mib` chooses the part that the device has:
`rpdu2` (AP8xxx, AP7xxxB, APDU9xxx, APDU10xxx): rPDU2OutletSwitchedControlCommand, rPDU2OutletSwitchedStatusState;
`rpdu` (AP79xx, AP89xx in old firmware): rPDUOutletControlOutletCommand, rPDUOutletStatusOutletState;
`masterswitch` (AP92xx): sPDUOutletCtl for both.

    apc: {
      "rack4-left": { address: "10.0.4.20", community_file: "/etc/labkeeper/apc", ports: { "rack4-07": 7 } },
      "rack4-old": { address: "10.0.4.21", mib: "rpdu", version: "1", ports: { "rack4-08": 8 } },
    }

The port is the outlet's number; the account must be allowed to write.
Manual: Schneider Electric, "PowerNet SNMP Management Information Base Reference Guide".
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import field_validator

from consumers.powercycle_agent.drivers.protocol import DriverKind
from consumers.powercycle_agent.drivers.settings import Port
from consumers.powercycle_agent.drivers.snmp_outlets import (
    Outlets,
    SnmpSettings,
    checked,
    column,
    opener,
    outlet_number,
)

_APC: Final = "1.3.6.1.4.1.318.1.1"
_ONE, _TWO = frozenset({1}), frozenset({2})
_MIBS: Final = {
    "rpdu2": Outlets(
        command=column(f"{_APC}.26.9.2.4.1.5", outlet_number),
        state=column(f"{_APC}.26.9.2.3.1.5", outlet_number),
        on=1,
        off=2,
        says_on=_TWO,  # the other way round, indeed
        says_off=_ONE,
    ),
    "rpdu": Outlets(
        command=column(f"{_APC}.12.3.3.1.1.4", outlet_number),
        state=column(f"{_APC}.12.3.5.1.1.4", outlet_number),
        on=1,
        off=2,
        says_on=_ONE,
        says_off=_TWO,
    ),
    "masterswitch": Outlets(
        command=column(f"{_APC}.4.4.2.1.3", outlet_number),
        state=column(f"{_APC}.4.4.2.1.3", outlet_number),
        on=1,
        off=2,
        says_on=_ONE,
        says_off=_TWO,
    ),
}


class ApcSettings(SnmpSettings):
    """One PDU, or a group of PDUs that share an address."""

    mib: Literal["rpdu2", "rpdu", "masterswitch"] = "rpdu2"

    @field_validator("ports")
    @classmethod
    def _are_outlets(cls, ports: dict[str, Port]) -> dict[str, Port]:
        return checked(ports, outlet_number)


KIND = DriverKind("apc", ApcSettings, opener(lambda settings: _MIBS[settings.mib]))
