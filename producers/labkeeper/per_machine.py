"""Doing one thing to several machines: a machine that fails does not keep the others from their turn."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, TypeVar

from pipeline.command import CommandFailed, ExitCode
from producers.labkeeper.output import tell

Answer = TypeVar("Answer")

_HOPELESS: Final = (ExitCode.DENIED, ExitCode.UNREACHABLE, ExitCode.TIMED_OUT, ExitCode.USAGE)
"""What fails for one machine like this will fail for all."""


class Outcomes:
    """Counts what went wrong, and says so in the end."""

    def __init__(self) -> None:
        self._failures: list[CommandFailed] = []

    async def attempt(self, request: Awaitable[Answer]) -> Answer | None:
        """The answer, or None when it failed for this machine. Raises what would fail for every machine."""
        try:
            return await request
        except CommandFailed as error:
            if error.code in _HOPELESS:
                raise
            self.add(error)
            return None

    def add(self, failure: CommandFailed) -> None:
        """Something went wrong that the others should not suffer from."""
        self._failures.append(failure)

    def finish(self) -> None:
        """Raise the first failure when there was one; the others are told before it."""
        for failure in self._failures[1:]:
            tell(f"labkeeper: {failure}")
        if self._failures:
            raise self._failures[0]
