"""The Modbus driver and its fake relay board: a coil and a holding register."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from consumers.powercycle_agent.drivers.modbus import KIND
from consumers.powercycle_agent.drivers.secrets import Secrets
from tests.contract.power_devices.harness import Case, Harness, Trait
from tests.power_devices.modbus import COILS, ON_VALUE, REGISTER, UNIT, FakeRelayBoard


@asynccontextmanager
async def start(folder: Path) -> AsyncIterator[Case]:
    board = FakeRelayBoard()
    await board.start()

    def settings(limit_s: float) -> Any:
        return KIND.settings.model_validate(
            {
                "address": "127.0.0.1",
                "tcp_port": board.tcp_port,
                "unit": UNIT,
                "on_value": ON_VALUE,
                "ports": {"one": COILS[0], "two": REGISTER},
                "limit_s": limit_s,
                "confirm_s": 0.3,
            }
        )

    try:
        yield Case(board, KIND, settings, Secrets({}, folder), (COILS[0], REGISTER), "holding:99")
    finally:
        await board.stop()


HARNESSES: Final = (Harness("modbus", start, {Trait.LOGIN: "Modbus knows no logins"}),)
