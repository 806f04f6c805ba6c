"""Fakes of devices that a driver reaches by running a program: the program asks the test what to print.

The file that is run is real, with arguments, output, exit status and a life of its own; what it knows comes over a Unix socket.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.power_devices.device import Mood, PowerDevice

_ASK = r"""
import _socket, sys
test = _socket.socket(_socket.AF_UNIX)
test.connect(sys.argv[1])
test.sendall("\0".join(sys.argv[2:]).encode() + b"\n")
answer = b""
while chunk := test.recv(65536):
    answer += chunk
status, out, err = answer.decode().split("\0")
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(int(status))
"""
"""Starts in a third of the time that `socket` and `json` would take; arguments with line ends do not come."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run prints, and how it ends."""

    status: int = 0
    out: str = ""
    err: str = ""


class ProgramDevice(PowerDevice):
    """A device behind a program. `stop` takes the device away, not the program; `dispose` is the end."""

    def __init__(self, folder: Path, name: str, ports: Sequence[str]) -> None:
        super().__init__(ports)
        self.program = folder / name
        self.is_there = False
        self._socket = folder / "s"
        self._server: asyncio.Server | None = None
        self._runs: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        """Programs that are running."""

    async def start(self) -> None:
        self.is_there = True
        if self._server is None:
            self._server = await asyncio.start_unix_server(self._serve, self._socket)
            asking = (sys.executable, "-IS", "-c", _ASK, str(self._socket))
            self.program.write_text(f'#!/bin/sh\nexec {shlex.join(asking)} "$@"\n')
            self.program.chmod(0o755)

    async def stop(self) -> None:
        self.is_there = False

    async def break_off(self) -> None:
        """There is no connection to break."""

    async def dispose(self) -> None:
        """Answer no longer."""
        if self._server is not None:
            self._server.close()
            for writer in self._runs.values():
                writer.transport.abort()
            await asyncio.gather(*self._runs)
            await self._server.wait_closed()

    @abstractmethod
    def answer(self, arguments: list[str]) -> Answer:
        """What the program does when it is run so."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._runs[task] = writer
        with suppress(OSError):  # killed meanwhile
            await self._talk(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        del self._runs[task]

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readline()).decode().removesuffix("\n")
        if self.mood is Mood.HANGS:
            await reader.read()  # until it is killed
        elif asked:
            arguments = asked.split("\0")
            self.note(shlex.join(arguments))
            answer = self.answer(arguments)
            writer.write("\0".join((str(answer.status), answer.out, answer.err)).encode())
            await writer.drain()
