"""What the Modbus driver does beyond what every driver promises."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from consumers.powercycle_agent.drivers.errors import DriverError, NotConfirmed, UnknownPort, Unreachable
from consumers.powercycle_agent.drivers.modbus import KIND
from consumers.powercycle_agent.drivers.protocol import PortState, PowerDriver
from consumers.powercycle_agent.drivers.secrets import Secrets
from tests.power_devices.modbus import COILS, ON_VALUE, REGISTER, UNIT, FakeRelayBoard

pytestmark = pytest.mark.slow


@pytest.fixture
async def board() -> AsyncIterator[FakeRelayBoard]:
    device = FakeRelayBoard()
    await device.start()
    yield device
    await device.stop()


def opened(board: FakeRelayBoard, **keys: Any) -> PowerDriver:
    entry = {"address": "127.0.0.1", "tcp_port": board.tcp_port, "unit": UNIT, "ports": {}, **keys}
    driver: PowerDriver = KIND.open(KIND.settings.model_validate(entry), Secrets({}, Path("/nonexistent")))
    return driver


@pytest.mark.parametrize("port", [COILS[1], f"coil:{COILS[1]}", REGISTER])
async def test_an_inverted_relay_is_released_for_on(board: FakeRelayBoard, port: str) -> None:
    driver = opened(board, inverted=True, on_value=ON_VALUE)
    relay = port.removeprefix("coil:")
    await driver.on(port)
    assert board.states[relay] is PortState.OFF
    assert await driver.status(port) is PortState.ON
    await driver.off(port)
    assert board.states[relay] is PortState.ON


async def test_a_register_that_holds_neither_value_is_unknown(board: FakeRelayBoard) -> None:
    driver = opened(board, on_value=1)
    assert await driver.status(REGISTER) is PortState.UNKNOWN


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"ports": {"m": "65536"}}, "port of m"),
        ({"ports": {"m": "input:1"}}, "port of m"),
        ({"ports": {"m": -1}}, "port of m"),
        ({"on_value": 0}, "must differ"),
        ({"unit": 256}, "unit"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        KIND.settings.model_validate({"address": "10.0.0.1", "ports": {}, **keys})


@pytest.mark.parametrize(
    ("code", "error"), [(2, UnknownPort), (4, NotConfirmed), (10, Unreachable), (11, Unreachable)]
)
async def test_an_exception_is_called_what_it_is(code: int, error: type[DriverError]) -> None:
    there: set[asyncio.StreamWriter] = set()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(8)  # transaction, protocol, length, unit, function
                await reader.readexactly(int.from_bytes(head[4:6], "big") - 2)
                writer.write(head[:4] + b"\0\3" + head[6:7] + bytes([head[7] | 0x80, code]))
        writer.close()
        there.discard(writer)

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        entry = {"address": "127.0.0.1", "tcp_port": server.sockets[0].getsockname()[1], "ports": {"m": 7}}
        driver: PowerDriver = KIND.open(
            KIND.settings.model_validate(entry), Secrets({}, Path("/nonexistent"))
        )
        for call in (driver.off("7"), driver.status("7")):
            with pytest.raises(DriverError) as caught:
                await call
            assert type(caught.value) is error
        await driver.close()
        async with asyncio.timeout(10):
            while there:
                await asyncio.sleep(0.01)
