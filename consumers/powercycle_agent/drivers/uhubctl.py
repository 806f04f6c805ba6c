"""USB hubs that switch power port by port: those on the list of the program `uhubctl`, such as D-Link DUB-H7 and Raspberry Pi 4's own.

Protocol: USB hub class requests on this host, made by `uhubctl`.

    uhubctl: {
      "bench": { hub: "1-1.4", ports: { "phone-03": 3 } },
    }

`hub` is a location that `uhubctl` lists. Of a USB 3 hub both halves are switched and read back. What is read is the hub's own
bit for the port's power: hubs that only pretend to switch set it as well, so try with a lamp first.
The agent needs access to the USB device: see "Linux USB permissions" in uhubctl's README. Tested with the output of 2.5.0.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field, field_validator

from consumers.powercycle_agent.drivers import child
from consumers.powercycle_agent.drivers.confirmation import ConfirmingDriver
from consumers.powercycle_agent.drivers.errors import (
    DriverError,
    NotConfirmed,
    TurnedAway,
    UnknownPort,
    Unreachable,
)
from consumers.powercycle_agent.drivers.limits import LimitedSettings
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.settings import Port

_PORT_LINE: Final = re.compile(r"^ +Port (\d+): [0-9a-f]{4}([^\[\n]*)", re.MULTILINE)


class UhubctlSettings(LimitedSettings):
    """One hub."""

    hub: Annotated[str, Field(pattern=r"^\d+(-\d+(\.\d+)*)?$", max_length=40)]
    """Location, such as `1-1.4`."""
    repeat: Annotated[int, Field(ge=1, le=100)] = 1
    """How often power is switched off; some devices need it more than once."""
    program: Annotated[str, Field(min_length=1)] = "uhubctl"
    """Name or path."""

    @field_validator("ports")
    @classmethod
    def _numbers(cls, ports: dict[str, Port]) -> dict[str, Port]:
        for machine_id, port in ports.items():
            if not re.fullmatch(r"[1-9][0-9]?", port):
                raise ValueError(f"the port of {machine_id} must be a number from 1")
        return ports


class UhubctlDriver(ConfirmingDriver):
    """A `PowerDriver` for one hub."""

    def __init__(self, settings: UhubctlSettings, secrets: Secrets) -> None:  # noqa: ARG002  # there are none
        super().__init__(f"USB hub {settings.hub}", limit_s=settings.limit_s, confirm_s=settings.confirm_s)
        self._settings = settings

    async def tell(self, port: str, wanted: PortState) -> None:
        await self.status(port)  # knows the port; asked to switch one that there is not, uhubctl ends well
        await self._run("-p", port, "-a", wanted.value, "-r", str(self._settings.repeat))

    async def status(self, port: str) -> PortState:
        out = await self._run("-p", port)
        states = {_state(words) for number, words in _PORT_LINE.findall(out) if number == port}
        if not states:
            raise UnknownPort(f"{self.device} has no port {port}")
        return states.pop() if len(states) == 1 else PortState.UNKNOWN

    async def probe(self) -> None:
        await self._run()

    async def close(self) -> None:
        pass

    async def _run(self, *arguments: str) -> str:
        ended = await child.run(
            [self._settings.program, "-l", self._settings.hub, *arguments],
            device=self.device,
            limit_s=self._settings.limit_s,
            environment=child.plain_environment(),
            install="install uhubctl",
        )
        if ended.status != 0:
            raise self._translated(ended)
        return ended.out

    def _translated(self, ended: child.Ended) -> DriverError:
        said = ended.err + ended.out
        if "permission" in said.lower():
            return TurnedAway(
                f"uhubctl may not use {self.device}: give the agent's user access to the USB device"
            )
        if "No compatible devices" in said:
            return Unreachable(
                f"{self.device} is not there, or does not switch its ports: see what uhubctl lists"
            )
        return NotConfirmed(f"uhubctl failed at {self.device}: {ended.last_words}")


def _state(words: str) -> PortState:
    """USB 2 hubs show no word at all for a port that is off but not idle."""
    return PortState.ON if "power" in words.split() else PortState.OFF


KIND = DriverKind("uhubctl", UhubctlSettings, UhubctlDriver)
