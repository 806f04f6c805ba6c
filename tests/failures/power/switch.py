"""A switch on loopback that everybody speaks to by lines of text, and that remembers who switched what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

ON = "on"
OFF = "off"


@dataclass(frozen=True, slots=True)
class Switching:
    """A port was switched."""

    port: str
    verb: str
    pid: int


@dataclass
class LineSwitch:
    """`<verb> <port> <pid>` is answered with `ok <state>`. Ports are on until somebody switches them off."""

    port: int = 0
    states: dict[str, str] = field(default_factory=dict)
    done: list[Switching] = field(default_factory=list)
    watch: Callable[[str, str, int], None] = lambda _point, _port, _pid: None
    """Called at each point of the protocol: `off received`, `off acted`, `off answered` and the like; port; who."""
    hold: dict[str, asyncio.Event] = field(default_factory=dict)
    """`<verb> <port>` → answers to it wait for this."""
    busy: set[str] = field(default_factory=set)
    overlaps: list[str] = field(default_factory=list)
    """Groups of ports (`a` of `a/1`) on which two commands were under way at once."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()

    def switched(self, port: str) -> list[str]:
        """What was done to a port, in order."""
        return [each.verb for each in self.done if each.port == port]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):
                while line := (await reader.readline()).decode():
                    if not line.endswith("\n"):
                        break  # whoever wrote it died over it
                    writer.write((await self._answer(*line.split())).encode())
                    await writer.drain()
                    verb, port, pid = line.split()
                    self.watch(f"{verb} answered", port, int(pid))
        finally:
            writer.close()

    async def _answer(self, verb: str, port: str, pid: str) -> str:
        group = port.partition("/")[0]
        if group in self.busy:
            self.overlaps.append(group)
        self.busy.add(group)
        try:
            self.watch(f"{verb} received", port, int(pid))
            if verb in {ON, OFF}:
                self.states[port] = verb
                self.done.append(Switching(port, verb, int(pid)))
            self.watch(f"{verb} acted", port, int(pid))
            if (gate := self.hold.get(f"{verb} {port}")) is not None:
                await gate.wait()
        finally:
            self.busy.discard(group)
        return f"ok {self.states.get(port, ON)}\n"
