"""A relay board on Modbus TCP: pymodbus' server with two coils and a holding register, behind a gate."""

from __future__ import annotations

from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from consumers.powercycle_agent.drivers.protocol import PortState
from tests.power_devices.device import Mood, PowerDevice
from tests.power_devices.gate import Gate

UNIT = 7
COILS = ("0", "1")
REGISTER = "holding:17"
ON_VALUE = 0xFF
_READS = frozenset({1, 3})


class FakeRelayBoard(PowerDevice):
    """Unit 7; the register holds 255 for on and 0 for off."""

    def __init__(self) -> None:
        super().__init__((*COILS, REGISTER))
        self._gate = Gate(lambda: self.mood is Mood.HANGS)
        self._server: Any = None

    @property
    def tcp_port(self) -> int:
        """Where it is."""
        return self._gate.port

    async def start(self) -> None:
        coils = [SimData(0, values=[True, True], datatype=DataType.BITS)]
        registers = [SimData(17, values=[ON_VALUE], datatype=DataType.REGISTERS)]
        others = [SimData(0, values=[0], datatype=DataType.REGISTERS)]
        inputs = [SimData(0, values=[False], datatype=DataType.BITS)]
        board = SimDevice(UNIT, simdata=(coils, inputs, registers, others), action=self._act)
        self._server = ModbusTcpServer(board, address=("127.0.0.1", 0), trace_packet=self._speak)
        await self._server.serve_forever(background=True)
        await self._gate.open(self._server.transport.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        await self._gate.shut()
        if self._server is not None:
            await self._server.shutdown()
            self._server = None

    async def break_off(self) -> None:
        await self._gate.cut()

    async def _act(
        self,
        function: int,
        _: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Pymodbus asks before it reads or writes; `registers` hold 16 coils each."""
        if values is not None:
            port = str(address) if function == 5 else f"holding:{address}"
            self.note(f"function {function}, address {address}: {int(values[0])}")
            self.switch(port, PortState.ON if values[0] else PortState.OFF)
        elif function in _READS:
            self.note(f"function {function}, address {address}")
            if function == 1:
                registers[0] = sum(1 << int(coil) for coil in COILS if self.states[coil] is PortState.ON)
            else:
                registers[0] = ON_VALUE if self.states[REGISTER] is PortState.ON else 0
        return None

    def _speak(self, is_sent: bool, packet: bytes) -> bytes:
        return b"\xff" * len(packet) if is_sent and self.mood is Mood.BABBLES else packet
