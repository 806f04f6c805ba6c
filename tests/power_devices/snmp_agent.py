"""A switched PDU's SNMP agent on loopback: pysnmp's command responder over a MIB of a few outlets, SNMP 1, 2c and 3.

The numbers are written out here once more, from the vendors' MIBs, and not taken from the drivers.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

from pysnmp.carrier.asyncio.dgram import udp
from pysnmp.entity import config
from pysnmp.entity.engine import SnmpEngine
from pysnmp.entity.rfc3413 import cmdrsp, context
from pysnmp.proto.rfc1902 import Integer32, TimeTicks
from pysnmp.proto.rfc1905 import NoSuchInstance
from pysnmp.smi import error
from pysnmp.smi.instrum import AbstractMibInstrumController

from consumers.powercycle_agent.drivers.protocol import PortState
from tests.power_devices.device import Mood, PowerDevice

COMMUNITY: Final = "lab-writes"
READER: Final = "lab-reads"
"""Community that may only read."""
USER: Final = "lab"
AUTH_PASSWORD: Final = "one long secret"
PRIV_PASSWORD: Final = "another long secret"
_UPTIME: Final = "1.3.6.1.2.1.1.3.0"
_SYSTEM: Final = (1, 3, 6, 1, 2, 1, 1)
"""What a reader may write. pysnmp lets those write anything who may write nothing."""
_ENGINE_ID: Final = bytes.fromhex("8000000001c0ffee07")


@dataclass(frozen=True, slots=True)
class Mib:
    """Where a vendor keeps its outlets, and in which numbers."""

    command: str
    """OID with `{port}`; so is `state`."""
    state: str
    commands: Mapping[int, PortState]
    says: Mapping[PortState, int]
    indices: Mapping[str, str]
    """Port → index."""


class SnmpAgent(PowerDevice):
    """A PDU. `break_off` starts its agent anew, as after an update of its firmware: its clock begins again."""

    _idle: ClassVar[list[SnmpEngine]] = []
    """Engines that ran before: pysnmp compiles a dozen MIBs for a new one, which takes a tenth of a second."""

    def __init__(self, mib: Mib) -> None:
        super().__init__(list(mib.indices))
        self._mib = mib
        self._engine: SnmpEngine | None = None
        self._responders: list[Any] = []
        self._boots = 0
        self._lets_in = True
        self.udp_port = 0
        self.heard = 0
        """Datagrams so far, answered or not."""

    async def start(self) -> None:
        self._boots += 1
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind(("127.0.0.1", self.udp_port))
        self.udp_port = listener.getsockname()[1]
        self._engine = engine = self._idle.pop() if self._idle else _new_engine()
        _set(engine, "snmpEngineBoots", self._boots)
        config.add_transport(engine, udp.DOMAIN_NAME, _Transport(self).open_server_mode(sock=listener))
        names = context.SnmpContext(engine)
        names.unregister_context_name(b"")
        names.register_context_name(b"", _Outlets(self, self._mib))
        self._responders = [
            kind(engine, names) for kind in (cmdrsp.GetCommandResponder, cmdrsp.SetCommandResponder)
        ]

    async def stop(self) -> None:
        engine, self._engine = self._engine, None
        if engine is None:
            return
        for responder in self._responders:
            responder.close(engine)
        engine.close_dispatcher()
        await asyncio.sleep(0)  # the loop closes sockets in its next round
        if self._lets_in:
            self._idle.append(engine)

    async def break_off(self) -> None:
        await self.stop()
        await self.start()

    def follow_mood(self) -> bool:
        """Whether there is an answer at all to what has just come."""
        self.heard += 1
        lets_in = self.mood is not Mood.REFUSES
        if lets_in is not self._lets_in and self._engine is not None:
            self._lets_in = lets_in
            config.delete_v3_user(self._engine, USER)
            _add_user(self._engine, AUTH_PASSWORD if lets_in else "changed by somebody")
        return self.mood is not Mood.HANGS


def _new_engine() -> SnmpEngine:
    engine = SnmpEngine()
    engine.snmpEngineID = _set(engine, "snmpEngineID", _ENGINE_ID)
    everything = (1, 3, 6)
    config.add_v1_system(engine, "writer", COMMUNITY)
    config.add_v1_system(engine, "reader", READER)
    for version in (1, 2):
        config.add_vacm_user(engine, version, "writer", "noAuthNoPriv", everything, everything)
        config.add_vacm_user(engine, version, "reader", "noAuthNoPriv", everything, _SYSTEM)
    _add_user(engine, AUTH_PASSWORD)
    config.add_vacm_user(engine, 3, USER, "authPriv", everything, everything)
    return engine


def _add_user(engine: SnmpEngine, auth_password: str) -> None:
    auth, priv = config.USM_AUTH_HMAC192_SHA256, config.USM_PRIV_CFB128_AES
    config.add_v3_user(engine, USER, auth, auth_password, priv, PRIV_PASSWORD)


def _set(engine: SnmpEngine, name: str, value: Any) -> Any:
    (symbol,) = engine.get_mib_builder().import_symbols("__SNMP-FRAMEWORK-MIB", name)
    symbol.syntax = symbol.syntax.clone(value)
    return symbol.syntax


class _Transport(udp.UdpAsyncioTransport):  # type: ignore[misc]  # pysnmp has no types
    """Hears every datagram first."""

    def __init__(self, agent: SnmpAgent) -> None:
        super().__init__()
        self._agent = agent

    def datagram_received(self, datagram: bytes, transportAddress: Any) -> None:  # noqa: N803  # pysnmp's name
        if not self._agent.follow_mood():
            return
        if self._agent.mood is Mood.BABBLES:
            self.transport.sendto(b"\x30\x82 not BER at all", transportAddress)
            return
        super().datagram_received(datagram, transportAddress)


class _Outlets(AbstractMibInstrumController):  # type: ignore[misc]  # pysnmp has no types
    """The MIB."""

    def __init__(self, agent: SnmpAgent, mib: Mib) -> None:
        self._agent = agent
        self._mib = mib

    @cached_property
    def _states(self) -> dict[str, str]:
        return {self._mib.state.format(port=index): port for port, index in self._mib.indices.items()}

    @cached_property
    def _commands(self) -> dict[str, str]:
        return {self._mib.command.format(port=index): port for port, index in self._mib.indices.items()}

    def read_variables(self, *varBinds: Any, **context: Any) -> list[Any]:  # noqa: N803  # pysnmp's name
        for name, value in varBinds:
            context["acFun"]("read", (name, value), snmpEngine=context["snmpEngine"], idx=0)
        return [(name, self._read(str(name))) for name, _ in varBinds]

    def write_variables(self, *varBinds: Any, **context: Any) -> list[Any]:  # noqa: N803  # pysnmp's name
        for name, value in varBinds:
            if context["acFun"]("write", (name, value), snmpEngine=context["snmpEngine"], idx=0):
                raise error.NoAccessError(name=name, idx=0)
            port = self._commands.get(str(name))
            state = self._mib.commands.get(int(value))
            if port is None:
                raise error.NoCreationError(name=name, idx=0)
            if state is None:
                raise error.WrongValueError(name=name, idx=0)
            self._agent.note(f"set {name} = {int(value)}")
            self._agent.switch(port, state)
        return list(varBinds)

    def _read(self, oid: str) -> Any:
        if oid == _UPTIME:
            return TimeTicks(4711)
        port = self._states.get(oid)
        return NoSuchInstance() if port is None else Integer32(self._mib.says[self._agent.states[port]])
