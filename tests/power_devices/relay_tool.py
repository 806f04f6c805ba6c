"""A relay card's own tool: `set PORT 0|1` and `get PORT`, with the exit statuses of sysexits.h."""

from __future__ import annotations

import os
from pathlib import Path

from consumers.powercycle_agent.drivers.protocol import PortState
from tests.power_devices.device import Mood
from tests.power_devices.program import Answer, ProgramDevice


class FakeRelayTool(ProgramDevice):
    """Relays `left one` and `left two`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "relay tool", ("left one", "left two"))

    def answer(self, arguments: list[str]) -> Answer:
        verb, port, *value = arguments
        if self.mood is Mood.REFUSES:
            return Answer(os.EX_NOPERM, err="you may not\n")
        if not self.is_there:
            return Answer(os.EX_UNAVAILABLE, err="no card\n")
        if port not in self.states:
            return Answer(os.EX_NOUSER, err="no such relay\n")
        if self.mood is Mood.BABBLES:
            return Answer(os.EX_SOFTWARE if verb == "set" else 0, out="relay? what relay?\n")
        if verb == "set":
            self.switch(port, PortState.ON if value == ["1"] else PortState.OFF)
            return Answer()
        return Answer(out=f"relay {port}\nstate={self.states[port]}\n")
