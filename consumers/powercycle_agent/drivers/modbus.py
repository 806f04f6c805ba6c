"""Relay boards and PLC outputs on Modbus TCP: Waveshare and Kincony Ethernet relays, WAGO 750, Moxa ioLogik E1200, ICP DAS ET-7000.

Protocol: Modbus TCP, port 502: read and write one coil (functions 1 and 5) or one holding register (3 and 6). Needs the extra
`modbus`. Modbus knows no passwords: keep such devices in a network of their own.

    modbus: {
      "relays": { address: "10.0.4.30", unit: 1, inverted: true, ports: { "rack4-07": 0, "rack4-08": "holding:17" } },
    }

The port is a coil's address as it goes over the wire, from 0 (manuals often count from 1, or write 00001), or
`holding:<address>`. `inverted`: the machine has power while the relay is released. `on_value` and `off_value` are what registers
hold. Unit: the id behind a gateway; boards of their own take 1 or 255.
Manual: "MODBUS Application Protocol Specification V1.1b3"; the board's register map.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, Self

from pydantic import Field, field_validator, model_validator

from consumers.powercycle_agent.drivers.confirmation import ConfirmingDriver
from consumers.powercycle_agent.drivers.errors import (
    DriverError,
    NotConfirmed,
    NotInstalled,
    NotReached,
    UnknownPort,
    Unreachable,
)
from consumers.powercycle_agent.drivers.limits import LimitedSettings, connecting_within, within
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.settings import Port

_PORT: Final = re.compile(r"(?:(coil|holding):)?(\d{1,5})")
_ILLEGAL_ADDRESS: Final = 2
_GATEWAY_ERRORS: Final = frozenset({10, 11})
"""Exception codes: the gateway does not get through to the unit."""
Value = Annotated[int, Field(ge=0, le=65535)]


class ModbusSettings(LimitedSettings):
    """One device, or one unit behind a gateway."""

    address: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^\S+$")]
    tcp_port: Annotated[int, Field(ge=1, le=65535)] = 502
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    inverted: bool = False
    on_value: Value = 1
    off_value: Value = 0

    @field_validator("ports")
    @classmethod
    def _are_addresses(cls, ports: dict[str, Port]) -> dict[str, Port]:
        for machine_id, port in ports.items():
            found = _PORT.fullmatch(port)
            if found is None or int(found[2]) > 65535:
                raise ValueError(
                    f"the port of {machine_id} must be an address from 0 to 65535, or holding:<address>"
                )
        return ports

    @model_validator(mode="after")
    def _tells_on_from_off(self) -> Self:
        if self.on_value == self.off_value:
            raise ValueError("on_value and off_value must differ")
        return self


class ModbusDriver(ConfirmingDriver):
    """A `PowerDriver` for one unit. It connects anew for every question: small boards take few connections."""

    def __init__(self, settings: ModbusSettings, secrets: Secrets) -> None:  # noqa: ARG002  # there are none
        """Raises `NotInstalled`."""
        super().__init__(
            f"{settings.address} (Modbus)", limit_s=settings.limit_s, confirm_s=settings.confirm_s
        )
        self._settings = settings
        self._client, self._error = _library()

    async def tell(self, port: str, wanted: PortState) -> None:
        is_holding, address = self._place(port)
        value = self._value(wanted, is_holding=is_holding)
        async with self._connected() as client:
            if is_holding:
                answer = await client.write_register(address, value, device_id=self._settings.unit)
            else:
                answer = await client.write_coil(address, bool(value), device_id=self._settings.unit)
            self._check(answer, port)

    async def status(self, port: str) -> PortState:
        is_holding, address = self._place(port)
        async with self._connected() as client:
            read = client.read_holding_registers if is_holding else client.read_coils
            answer = await read(address, count=1, device_id=self._settings.unit)
            self._check(answer, port)
        for value in list(answer.registers if is_holding else answer.bits)[:1]:
            for state in (PortState.ON, PortState.OFF):
                if int(value) == self._value(state, is_holding=is_holding):
                    return state
        return PortState.UNKNOWN

    async def probe(self) -> None:
        for port in list(self._settings.ports.values())[:1]:
            await self.status(port)

    async def close(self) -> None:
        pass

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        settings = self._settings
        client = self._client(
            settings.address, port=settings.tcp_port, timeout=settings.limit_s, retries=0, reconnect_delay=0
        )
        cancelled_before = _cancellations()
        try:
            async with within(settings.limit_s, self.device):
                async with connecting_within(settings.limit_s, self.device):
                    is_connected = await client.connect()
                    _end_if_cancelled(cancelled_before)
                if not is_connected:
                    raise NotReached(f"cannot connect to {self.device} at port {settings.tcp_port}")
                yield client
                _end_if_cancelled(cancelled_before)
        except self._error as error:
            raise Unreachable(f"{self.device} broke off or does not answer: {error}") from error
        finally:
            client.close()

    def _place(self, port: str) -> tuple[bool, int]:
        """Whether it is a holding register, and its address."""
        found = _PORT.fullmatch(port)
        if found is None:
            raise UnknownPort(f"{self.device} has no port {port!r}")
        return found[1] == "holding", int(found[2])

    def _value(self, state: PortState, *, is_holding: bool) -> int:
        is_high = (state is PortState.ON) is not self._settings.inverted
        if not is_holding:
            return int(is_high)
        return self._settings.on_value if is_high else self._settings.off_value

    def _check(self, answer: Any, port: str) -> None:
        if answer.isError():
            raise self._translated(getattr(answer, "exception_code", 0), port)

    def _translated(self, code: int, port: str) -> DriverError:
        if code == _ILLEGAL_ADDRESS:
            return UnknownPort(f"{self.device} has no port {port}")
        if code in _GATEWAY_ERRORS:
            return Unreachable(f"{self.device} does not get through to unit {self._settings.unit}")
        return NotConfirmed(f"{self.device} answered with Modbus exception {code}")


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _end_if_cancelled(before: int) -> None:
    """Pymodbus waits with `asyncio.wait_for`, which loses a cancellation that comes together with the result on Python 3.11."""
    if _cancellations() > before:
        raise asyncio.CancelledError


def _library() -> tuple[Any, type[Exception]]:
    """Pymodbus' client, and the base of its errors."""
    try:
        from pymodbus.client import AsyncModbusTcpClient  # noqa: PLC0415  # an extra
        from pymodbus.exceptions import ModbusException  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise NotInstalled("Modbus needs the package pymodbus: pip install 'labkeeper[modbus]'") from error
    return AsyncModbusTcpClient, ModbusException


KIND = DriverKind("modbus", ModbusSettings, ModbusDriver)
