"""The drivers that run programs on the agent's host: uhubctl, and whatever a lab has of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from consumers.powercycle_agent.drivers import command, uhubctl
from consumers.powercycle_agent.drivers.protocol import DriverKind
from consumers.powercycle_agent.drivers.secrets import Secrets
from tests.contract.power_devices.harness import Case, Harness, Trait
from tests.power_devices.program import ProgramDevice
from tests.power_devices.relay_tool import FakeRelayTool
from tests.power_devices.uhubctl import HUB, FakeUhubctl


def starter(
    make: Callable[[Path], ProgramDevice],
    kind: DriverKind,
    entry: Callable[[str], Mapping[str, Any]],
    no_port: str,
    called: str,
) -> Callable[[Path], AbstractAsyncContextManager[Case]]:
    """`entry`: with the path of the program."""

    @asynccontextmanager
    async def start(folder: Path) -> AsyncIterator[Case]:
        device = make(folder)
        await device.start()
        first, second = list(device.states)[:2]

        def settings(limit_s: float) -> Any:
            limits = {"limit_s": max(limit_s, PATIENCE_S), "confirm_s": 0.3}
            ports = {"one": first, "two": second}
            return kind.settings.model_validate({**limits, **entry(str(device.program)), "ports": ports})

        try:
            yield Case(device, kind, settings, Secrets({}, folder), (first, second), no_port, called=called)
        finally:
            await device.dispose()

    return start


def hub(program: str) -> Mapping[str, Any]:
    return {"hub": HUB, "program": program}


def relay_card(program: str) -> Mapping[str, Any]:
    return {
        "on": [program, "set", "{port}", "1"],
        "off": [program, "set", "{port}", "0"],
        "status": [program, "get", "{port}"],
        "says_on": "^state=on$",
        "says_off": "^state=off$",
    }


PATIENCE_S: Final = 1.2
"""Enough for several runs of a program on a busy machine."""
SILENCE: Final = "a program does not say whether it got as far as the device"
MARKS: Final = (pytest.mark.integration,)
HARNESSES: Final = (
    Harness(
        "uhubctl", starter(FakeUhubctl, uhubctl.KIND, hub, "5", HUB), {Trait.CONNECTION: SILENCE}, marks=MARKS
    ),
    Harness(
        "command",
        starter(FakeRelayTool, command.KIND, relay_card, "left three", "relay tool"),
        {Trait.CONNECTION: SILENCE},
        marks=MARKS,
    ),
)
