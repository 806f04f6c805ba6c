"""Runs the tools that talk to devices: no shell, no input, bounded time, bounded output, nothing left behind.

A tool gets its own process group, and when it overstays or is no longer wanted the whole group is killed, so that what
it started goes with it. A tool that ends in time may leave a daemon behind (`adb` does): that is not waited for.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from producers.machine_monitor.probes.protocol import ProbeFailed

COMMAND_TIME: Final = timedelta(seconds=5)
OUTPUT_LIMIT: Final = 1024 * 1024
"""Bytes of each of the two streams. A real `getprop` has about 30 KB."""
_REST_TIME_S: Final = 0.5
"""How long the last output of a tool that has ended may take, when a daemon it left keeps the pipe open."""
_KILL_TIME_S: Final = 5.0
"""How long a killed tool may take to die. One stuck in a driver takes longer, and nothing can be done about it."""
_SHOWN: Final = 500
"""Characters of a tool's error output that are worth repeating."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a tool wrote before it ended with exit status 0."""

    stdout: str
    stderr: str


class CommandFailed(ProbeFailed):
    """A tool could not be started, failed, or took too long."""

    def __init__(self, message: str, *, stdout: str = "", stderr: str = "") -> None:
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr


class CommandRunner:
    """Runs tools for whoever asks; keeps no state."""

    def __init__(self, *, environment: Mapping[str, str] | None = None) -> None:
        """`environment` replaces this process's own, and with it the PATH on which tools are found."""
        self._environment = environment

    async def run(self, *argv: str, within: timedelta = COMMAND_TIME, merged: bool = False) -> Output:
        """Run `argv` to its end. Raises `CommandFailed` with what it wrote.

        `merged` puts both streams into `stdout`, as they come. NULs and bytes that are not UTF-8 become U+FFFD.
        """
        name = " ".join(argv)
        transport, tool = await self._start(argv, merged=merged)
        try:
            async with asyncio.timeout(within.total_seconds()):
                await tool.over()
        except TimeoutError:
            raise CommandFailed(f"{name}: no answer within {within.total_seconds():g} s") from None
        finally:
            await _end(transport, tool)
        stdout, stderr = _text(tool.stdout), _text(tool.stderr)
        if tool.wrote_too_much:
            raise CommandFailed(f"{name}: wrote more than {OUTPUT_LIMIT} bytes")
        if (status := transport.get_returncode()) != 0:
            shown = (stderr or stdout).strip()[:_SHOWN]
            raise CommandFailed(
                f'{name}: failed with stderr: "{shown}": {_ending(status)}', stdout=stdout, stderr=stderr
            )
        return Output(stdout, stderr)

    async def _start(
        self, argv: tuple[str, ...], *, merged: bool
    ) -> tuple[asyncio.SubprocessTransport, _Tool]:
        environment = dict(os.environ if self._environment is None else self._environment)
        environment["LC_ALL"] = "C"  # parsers read the tools' untranslated words
        try:
            return await asyncio.get_running_loop().subprocess_exec(
                _Tool,
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.STDOUT if merged else asyncio.subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL in an argument
            reason = error.strerror if isinstance(error, OSError) else error
            raise CommandFailed(f"{argv[0]} cannot be run: {reason}") from error


class _Tool(asyncio.SubprocessProtocol):
    """Collects what a running tool writes."""

    def __init__(self) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.wrote_too_much = False
        self.exited = asyncio.Event()
        self._full = asyncio.Event()
        """Exited, or wrote too much."""
        self._closed = asyncio.Event()
        """Exited, and all its output is here."""

    async def over(self) -> None:
        """Return when the tool has ended and its output is here, or when it wrote too much."""
        await self._full.wait()
        if not self.wrote_too_much:
            with suppress(TimeoutError):
                async with asyncio.timeout(_REST_TIME_S):
                    await self._closed.wait()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        stream = self.stdout if fd == 1 else self.stderr
        stream += data[: OUTPUT_LIMIT - len(stream)]
        if len(stream) == OUTPUT_LIMIT:
            self.wrote_too_much = True
            self._full.set()

    def process_exited(self) -> None:
        self.exited.set()
        self._full.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._closed.set()


async def _end(transport: asyncio.SubprocessTransport, tool: _Tool) -> None:
    if transport.get_returncode() is None:
        _kill_group(transport)
        with suppress(TimeoutError):
            async with asyncio.timeout(_KILL_TIME_S):
                await tool.exited.wait()
    transport.close()


def _kill_group(transport: asyncio.SubprocessTransport) -> None:
    with suppress(ProcessLookupError):
        if sys.platform == "win32":
            transport.kill()
        else:
            os.killpg(transport.get_pid(), signal.SIGKILL)


def _text(written: bytearray) -> str:
    return written.decode("utf-8", "replace").replace("\x00", "\ufffd")  # no store keeps a NUL


def _ending(status: int | None) -> str:
    return f"killed by signal {-status}" if status is not None and status < 0 else f"exit status {status}"
