"""Programs that drivers run: no shell, no input, bounded time, bounded output, and nothing is left behind.

A program gets a process group of its own. When it overstays, or the call is cancelled, the whole group is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from consumers.powercycle_agent.drivers.errors import NotInstalled, Unreachable
from consumers.powercycle_agent.drivers.limits import within

OUTPUT_LIMIT: Final = 64 * 1024
"""Bytes of each of the two streams that are kept; what comes after is thrown away."""
_REST_TIME_S: Final = 0.5
"""How long the last output may take once the program has ended: a daemon that it left may keep the pipe open."""
_DYING_TIME_S: Final = 2.0
"""How long a killed program may take to die. One that hangs in the kernel takes longer, and nothing can be done about it."""
_SHOWN: Final = 300


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended by itself."""

    status: int
    """Exit status; negative: the signal that ended it."""
    out: str
    err: str

    @property
    def last_words(self) -> str:
        """The last line that it wrote, with the errors before the rest."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return lines[-1][:_SHOWN] if lines else f"exit status {self.status}"


async def run(
    argv: Sequence[str],
    *,
    device: str,
    limit_s: float,
    environment: Mapping[str, str] | None = None,
    install: str,
) -> Ended:
    """Run a program to its end, for a device as errors name it. `environment`: None is our own.

    Raises `NotInstalled` with the advice `install`, and `Unreachable` when it takes longer than `limit_s`.
    """
    program = _Program()
    transport = await _start(program, argv, environment, install)
    try:
        async with within(limit_s, f"{argv[0]} for {device}"):
            await program.over()
    finally:
        await _end(transport, program)
    return Ended(transport.get_returncode() or 0, _text(program.written[1]), _text(program.written[2]))


def plain_environment(**variables: str) -> dict[str, str]:
    """What a tool needs to be found and to speak untranslated, and `variables`."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **variables}


async def _start(
    program: _Program, argv: Sequence[str], environment: Mapping[str, str] | None, install: str
) -> asyncio.SubprocessTransport:
    starting = asyncio.ensure_future(
        asyncio.get_running_loop().subprocess_exec(
            lambda: program,
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    )
    try:
        # To cancel asyncio itself here would hang, or leave behind what the program has started already.
        await asyncio.wait((starting,))
    except asyncio.CancelledError:
        starting.add_done_callback(_abandon)
        raise
    try:
        transport, _ = starting.result()
    except (FileNotFoundError, PermissionError) as error:
        raise NotInstalled(f"cannot run {argv[0]} ({error.strerror}): {install}") from error
    except OSError as error:
        raise Unreachable(f"cannot run {argv[0]}: {error.strerror}") from error
    return transport


class _Program(asyncio.SubprocessProtocol):
    """Collects what a running program writes."""

    def __init__(self) -> None:
        self.written = {1: bytearray(), 2: bytearray()}
        self.exited = asyncio.Event()
        self._closed = asyncio.Event()
        """Exited, and all its output is here."""

    async def over(self) -> None:
        """Return when the program has ended and its output is here."""
        await self.exited.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_REST_TIME_S):
                await self._closed.wait()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        stream = self.written[fd]
        stream += data[: OUTPUT_LIMIT - len(stream)]

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._closed.set()


def _abandon(started: asyncio.Future[tuple[asyncio.SubprocessTransport, _Program]]) -> None:
    if not started.cancelled() and started.exception() is None:
        transport, _ = started.result()
        _kill_group(transport)
        transport.close()


def _kill_group(transport: asyncio.SubprocessTransport) -> None:
    with suppress(ProcessLookupError):
        os.killpg(transport.get_pid(), signal.SIGKILL)


async def _end(transport: asyncio.SubprocessTransport, program: _Program) -> None:
    if transport.get_returncode() is None:
        _kill_group(transport)
        with suppress(TimeoutError):
            async with asyncio.timeout(_DYING_TIME_S):
                await program.exited.wait()
    transport.close()


def _text(written: bytearray) -> str:
    return written.decode("utf-8", "replace")
