"""Keeps child processes running, and ends them in order.

Each child leads a session of its own, so that Ctrl-C reaches only us, and holds the reading end of a pipe that ends when
we do, so that it ends even if we are killed. It writes its log to a file by itself: it can go on, and tell why it
stopped, whatever becomes of us. We read along.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from pipeline.command import CommandFailed, ExitCode
from pipeline.service import LIFELINE_VARIABLE, wait_for
from producers.labkeeper.premises import Premises
from producers.labkeeper.roles import Role
from producers.labkeeper.scrape_targets import ScrapeTargets
from producers.labkeeper.screen import Screen, as_text, asks_for_attention

_AT_ONCE_S: Final = 10.0
"""A child that ends sooner has not really started."""
_TRIES: Final = 3
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 30.0
_SENTENCE: Final = "labkeeper: "
"""What `pipeline.command.run` puts before a mistake that is explained."""
_READ_EVERY_S: Final = 0.1
_HURRIED_S: Final = 2.0
_LONGEST_READ: Final = 1 << 20


class Lifeline:
    """A pipe whose writing end only we hold, and never write to."""

    def __init__(self) -> None:
        self.reading_end, self._writing_end = os.pipe()

    def close(self) -> None:
        """Let go of both ends: children that still run will stop."""
        os.close(self.reading_end)
        os.close(self._writing_end)


class LogReader:
    """Reads along in a growing file, line by line."""

    def __init__(self, path: Path) -> None:
        """Begin behind what is there already."""
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def new_lines(self) -> Sequence[str]:
        """Whole lines written since the last call."""
        try:
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:  # somebody emptied it
                    self._offset = 0
                file.seek(self._offset)
                chunk = file.read(_LONGEST_READ)
        except FileNotFoundError:  # somebody tidied up
            return ()
        self._offset += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [line.decode(errors="replace") for line in lines if line.strip()]


class Child:
    """One role: its process, and the next one when that ends unasked."""

    def __init__(
        self,
        role: Role,
        log: Path,
        screen: Screen,
        lifeline: Lifeline,
        hurry: asyncio.Event,
        targets: ScrapeTargets,
    ) -> None:
        self.role = role
        self._log = log
        self._screen = screen
        self._lifeline = lifeline
        self._hurry = hurry
        self._targets = targets
        self._reader = LogReader(log)
        self._stopping = asyncio.Event()
        self._last_words = ""
        self._is_settled = False

    def settle(self) -> None:
        """The lab is up: from now on, go on trying for ever. One role in trouble must not take the others down."""
        self._is_settled = True

    def stop(self) -> None:
        """Make `keep_running` end the process and return."""
        self._stopping.set()

    async def keep_running(self) -> None:
        """Run the role until `stop` is called. Raises `CommandFailed` when it will not run, unless the lab is up."""
        tries, pause_s, has_run = 0, _FIRST_PAUSE_S, False
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            if time.monotonic() - began >= _AT_ONCE_S:
                tries, pause_s, has_run = 0, _FIRST_PAUSE_S, True
            tries += 1
            if not self._is_settled and (tries >= _TRIES or (not has_run and self._is_hopeless(code))):
                raise CommandFailed(self._failure(tries))
            self._screen.complain(
                f"{self.role.name} ended ({_how(code)}, {self._reason()}): starting it again in {pause_s:g} s"
            )
            await wait_for(self._stopping, pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    async def _run_once(self) -> int:
        self._last_words = ""
        with self._log.open("ab") as log:
            process = await self._spawn(log)
        reading = asyncio.create_task(self._read_along())
        try:
            return await self._ended(process)
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
            self._read()
            _kill_group(process.pid)  # whatever it had started

    async def _spawn(self, log: IO[bytes]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *self.role.arguments,
            *self._metrics(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(self._lifeline.reading_end,),
            env={**self.role.environment, LIFELINE_VARIABLE: str(self._lifeline.reading_end)},
        )

    def _metrics(self) -> Sequence[str]:
        if not self.role.has_metrics:
            return ()
        return ("--metrics-port", str(self._targets.port_of(self.role.name)))

    async def _ended(self, process: asyncio.subprocess.Process) -> int:
        """Exit code. Once we are to stop the process is asked to end, and killed when it takes too long."""
        ending = asyncio.create_task(process.wait())
        await _first_of(ending, self._stopping)
        if not ending.done():
            _send(process, signal.SIGTERM)
            await _first_of(ending, self._hurry, seconds=self.role.patience_s)
        if not ending.done() and self._hurry.is_set():
            await asyncio.wait((ending,), timeout=_HURRIED_S)
        if not ending.done():
            self._screen.complain(f"{self.role.name} does not end: killing it")
            _send(process, signal.SIGKILL)
        return await ending

    async def _read_along(self) -> None:
        while True:
            self._read()
            await asyncio.sleep(_READ_EVERY_S)

    def _read(self) -> None:
        for line in self._reader.new_lines():
            if asks_for_attention(line):
                self._last_words = as_text(line)
            self._screen.relay(self.role.name, line)

    def _is_hopeless(self, code: int) -> bool:
        """Whether it ended with a sentence for people: something is set up wrongly, and will be next time."""
        return code == ExitCode.USAGE or (code == ExitCode.FAILED and self._last_words.startswith(_SENTENCE))

    def _failure(self, tries: int) -> str:
        times = f" {tries} times" if tries > 1 else ""
        return (
            f"{self.role.name} ended{times} right after its start: {self._reason()} (its log is {self._log})"
        )

    def _reason(self) -> str:
        first, *_ = self._last_words.splitlines() or ["without a word"]
        return first.removeprefix(_SENTENCE)


class Supervisor:
    """The children of a lab. `hurry` shortens their time to finish."""

    def __init__(self, premises: Premises, screen: Screen, hurry: asyncio.Event) -> None:
        self._premises = premises
        self._screen = screen
        self._hurry = hurry
        self._lifeline = Lifeline()
        self._targets = ScrapeTargets(premises.metrics_targets, screen)
        self._tasks: dict[Child, asyncio.Task[None]] = {}

    def start(self, roles: Iterable[Role]) -> None:
        """Start processes and keep them running."""
        for role in roles:
            log = self._premises.fresh_log_of(role.name)
            child = Child(role, log, self._screen, self._lifeline, self._hurry, self._targets)
            self._tasks[child] = asyncio.create_task(child.keep_running())

    def settle(self) -> None:
        """Say that the lab is up: the children that it has now are started again for ever."""
        for child in self._tasks:
            child.settle()

    async def watch(self, *others: asyncio.Task[Any]) -> None:
        """Wait until one of the others is done. Raises `CommandFailed` when a child will not run."""
        await asyncio.wait((*self._tasks.values(), *others), return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks.values():
            if task.done():
                task.result()

    async def stop(self, order: Iterable[Sequence[str]]) -> None:
        """End all children, group by group in the given order of names; those not named last."""
        everybody = [child.role.name for child in self._tasks]
        for names in (*order, everybody):
            group = {child: task for child, task in self._tasks.items() if child.role.name in names}
            for child in group:
                child.stop()
            await asyncio.gather(*group.values(), return_exceptions=True)
        self._targets.close()
        self._lifeline.close()


async def _first_of(ending: asyncio.Task[int], event: asyncio.Event, *, seconds: float | None = None) -> None:
    """Wait for the end of a process or for the event, at most so long."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait((ending, waiting), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS refuses when only the dead are left
        os.killpg(leader, signal.SIGKILL)
