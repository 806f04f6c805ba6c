"""A USB 3 hub as uhubctl 2.5 shows it: two hubs, one for either half, whose ports go on and off together."""

from __future__ import annotations

from pathlib import Path

from consumers.powercycle_agent.drivers.protocol import PortState
from tests.power_devices.device import Mood
from tests.power_devices.program import Answer, ProgramDevice

HUB = "1-1.4"
_HUBS = {
    HUB: "[2109:2817 VIA Labs, Inc. USB2.0 Hub, USB 2.10, 4 ports, ppps]",
    "2-1.4": "[2109:0817 VIA Labs, Inc. USB3.0 Hub, USB 3.10, 4 ports, ppps]",
}
_POWERED = {
    HUB: "0507 power highspeed suspend enable connect [18d1:4ee7 Google Pixel off 3 0123]",
    "2-1.4": "02a0 power 5gbps Rx.Detect",
}
_DARK = {HUB: "0000 off", "2-1.4": "0080 off"}


class FakeUhubctl(ProgramDevice):
    """uhubctl and the hub; ports 1 to 4. `half_dark` ports have power in their USB 3 half only."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "uhubctl", ("1", "2", "3", "4"))
        self.half_dark: set[str] = set()
        self.indent = "  "
        """Before the line of a port; it was three blanks before 2.0."""

    def answer(self, arguments: list[str]) -> Answer:
        given = dict(zip(arguments[::2], arguments[1::2], strict=True))
        if self.mood is Mood.REFUSES:
            advice = "Follow https://github.com/mvp/uhubctl#linux-usb-permissions to fix it!\n"
            return Answer(1, err="There were permission problems while accessing USB.\n" + advice)
        if not self.is_there or given["-l"] != HUB:
            return Answer(
                1,
                err=f"No compatible devices detected at location {given['-l']}!\nRun with -h to get usage info.\n",
            )
        if self.mood is Mood.BABBLES:
            return Answer(out="\x01\ufffd\n" * 9)
        ports = [port for port in self.states if given.get("-p", port) == port]
        out = "".join(self._shown("Current", hub, ports) for hub in _HUBS)
        if (action := given.get("-a")) is None:
            return Answer(out=out)
        for port in ports:
            self.switch(port, PortState(action))
        return Answer(
            out=out
            + f"Sent power {action} request\n"
            + "".join(self._shown("New", hub, ports) for hub in _HUBS)
        )

    def _shown(self, when: str, hub: str, ports: list[str]) -> str:
        lines = [f"{when} status for hub {hub} {_HUBS[hub]}\n"]
        for port in ports:
            is_dark = self.states[port] is PortState.OFF or (hub == HUB and port in self.half_dark)
            lines.append(f"{self.indent}Port {port}: {(_DARK if is_dark else _POWERED)[hub]}\n")
        return "".join(lines)
