"""A management controller on loopback: pyghmi's BMC, which speaks RMCP+ to the real `ipmitool`, behind a gate for datagrams.

pyghmi keeps its sockets and threads for good, so one BMC serves all tests of a process; each test has a gate of its own.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any, ClassVar, Final

from pyghmi.ipmi.bmc import Bmc

from consumers.powercycle_agent.drivers.protocol import PortState
from tests.power_devices.device import Mood, PowerDevice

USER: Final = "power"
PASSWORD: Final = "bmc secret"
PORT: Final = "0"
_MAPPED_LOOPBACK: Final = "::ffff:127.0.0.1"


class FakeBmc(PowerDevice):
    """The one machine behind it is port 0."""

    _engine: ClassVar[_Engine | None] = None

    def __init__(self) -> None:
        super().__init__((PORT,))
        self._gate: asyncio.DatagramTransport | None = None
        self._inner: dict[Any, socket.socket] = {}
        """Client → socket that stands for it at the BMC."""
        self.udp_port = 0

    async def start(self) -> None:
        if FakeBmc._engine is None:
            FakeBmc._engine = _Engine()
        FakeBmc._engine.device = self
        self._gate, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Gate(self), local_addr=("127.0.0.1", self.udp_port)
        )
        self.udp_port = self._gate.get_extra_info("sockname")[1]

    async def stop(self) -> None:
        await self.break_off()
        if self._gate is not None:
            self._gate.close()
            self._gate = None
            await asyncio.sleep(0)  # the loop closes sockets in its next round

    async def break_off(self) -> None:
        for inner in self._inner.values():
            asyncio.get_running_loop().remove_reader(inner)
            inner.close()
        self._inner.clear()

    def pass_on(self, datagram: bytes, client: Any) -> None:
        """From a client to the BMC, as far as the mood lets it through."""
        assert FakeBmc._engine is not None
        if self.mood is Mood.BABBLES:
            assert self._gate is not None
            self._gate.sendto(b"\x06\x00\xff\x07 no IPMI at all", client)
        elif self.mood is not Mood.HANGS:
            if client not in self._inner:
                self._inner[client] = inner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                inner.setblocking(False)
                inner.connect(("127.0.0.1", FakeBmc._engine.port))
                asyncio.get_running_loop().add_reader(inner, self._pass_back, inner, client)
            self._inner[client].send(datagram)

    def _pass_back(self, inner: socket.socket, client: Any) -> None:
        answer = inner.recv(65536)
        if self._gate is not None and self.mood is not Mood.HANGS:
            self._gate.sendto(answer, client)


class _Gate(asyncio.DatagramProtocol):
    def __init__(self, device: FakeBmc) -> None:
        self._device = device

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._device.pass_on(data, addr)


class _Accounts:
    """pyghmi looks passwords up here."""

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine

    def get(self, user: str) -> str | None:
        if user != USER:
            return None
        return "changed by somebody" if self._engine.device.mood is Mood.REFUSES else PASSWORD


class _Engine(Bmc):  # type: ignore[misc]  # pyghmi has no types
    """Speaks for whichever device started last. Its callbacks come from a thread of its own."""

    device: FakeBmc

    def __init__(self) -> None:
        super().__init__(_Accounts(self), port=0, address=_MAPPED_LOOPBACK)
        self.port = self.serversocket.getsockname()[1]
        threading.Thread(target=self.listen, daemon=True, name="bmc").start()

    def get_power_state(self) -> str:
        return self.device.states[PORT].value

    def power_on(self) -> None:
        self._turn(PortState.ON)

    def power_off(self) -> None:
        self._turn(PortState.OFF)

    def _turn(self, state: PortState) -> None:
        self.device.note(f"chassis power {state}")
        self.device.switch(PORT, state)
