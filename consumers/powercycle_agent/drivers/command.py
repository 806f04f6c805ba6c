"""Whatever a program of yours can switch: a relay card with its own tool, a modem at the end of a script.

Protocol: child processes on the agent's host, without a shell, killed with all that they started when they overstay.

    command: {
      "relay card": {
        on: ["/opt/relay/set", "{port}", "1"],
        off: ["/opt/relay/set", "{port}", "0"],
        status: ["/opt/relay/get", "{port}"], says_on: "^1$", says_off: "^0$",
        ports: { "rack4-07": 3 },
      },
    }

An argument that is `{port}` becomes the machine's port; nothing else is replaced. `on` and `off` succeed with exit status 0.
`status` must exit with 0 and print what one of the two expressions finds, line by line; neither or both: unknown. Without the
expressions, exit status 0 is on and 1 is off. Other exit statuses mean what sysexits.h says: 67 no such port; 68, 69 and 75
unreachable; 77 not permitted; all others: failed.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from consumers.powercycle_agent.drivers import child
from consumers.powercycle_agent.drivers.confirmation import ConfirmingDriver
from consumers.powercycle_agent.drivers.errors import (
    DriverError,
    NotConfirmed,
    TurnedAway,
    UnknownPort,
    Unreachable,
)
from consumers.powercycle_agent.drivers.limits import LimitedSettings
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.secrets import Secrets

_PLACE: Final = "{port}"
_REACTIONS: Final[dict[int, type[DriverError]]] = {
    os.EX_NOUSER: UnknownPort,
    os.EX_NOHOST: Unreachable,
    os.EX_UNAVAILABLE: Unreachable,
    os.EX_TEMPFAIL: Unreachable,
    os.EX_NOPERM: TurnedAway,
}
_ON, _OFF = 0, 1
"""Exit statuses of a `status` whose output is not looked at."""


def _runnable(argv: list[str]) -> list[str]:
    if argv[0] in {"", _PLACE} or any("\0" in each for each in argv):
        raise ValueError("must begin with a program, and hold no NUL")
    return argv


def _expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return pattern


Argv = Annotated[list[str], Field(min_length=1, max_length=100), AfterValidator(_runnable)]
"""Program and arguments."""
Expression = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_expression)]


class CommandSettings(LimitedSettings):
    """One switch that programs of yours drive."""

    on: Argv
    off: Argv
    status: Argv
    says_on: Expression | None = None
    """What `status` prints when the port is on."""
    says_off: Expression | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.says_on is None) != (self.says_off is None):
            raise ValueError("says_on and says_off belong together")
        return self


class CommandDriver(ConfirmingDriver):
    """A `PowerDriver` that runs programs."""

    def __init__(self, settings: CommandSettings, secrets: Secrets) -> None:  # noqa: ARG002  # theirs are their own
        super().__init__(settings.on[0], limit_s=settings.limit_s, confirm_s=settings.confirm_s)
        self._settings = settings

    async def tell(self, port: str, wanted: PortState) -> None:
        argv = self._settings.on if wanted is PortState.ON else self._settings.off
        ended = await self._run(argv, port)
        if ended.status != 0:
            raise _translated(argv, ended)

    async def status(self, port: str) -> PortState:
        settings = self._settings
        ended = await self._run(settings.status, port)
        if settings.says_on is None or settings.says_off is None:
            if ended.status not in {_ON, _OFF}:
                raise _translated(settings.status, ended)
            return PortState.ON if ended.status == _ON else PortState.OFF
        if ended.status != 0:
            raise _translated(settings.status, ended)
        return _said(ended.out, settings.says_on, settings.says_off)

    async def probe(self) -> None:
        for port in list(self._settings.ports.values())[:1]:
            await self.status(port)

    async def close(self) -> None:
        pass

    async def _run(self, argv: list[str], port: str) -> child.Ended:
        return await child.run(
            [port if each == _PLACE else each for each in argv],
            device=self.device,
            limit_s=self._settings.limit_s,
            install="install it, or correct the entry",
        )


def _said(out: str, says_on: str, says_off: str) -> PortState:
    is_on, is_off = (re.search(each, out, re.MULTILINE) is not None for each in (says_on, says_off))
    if is_on == is_off:
        return PortState.UNKNOWN
    return PortState.ON if is_on else PortState.OFF


def _translated(argv: list[str], ended: child.Ended) -> DriverError:
    reaction = _REACTIONS.get(ended.status, NotConfirmed)
    return reaction(f"{argv[0]} failed with exit status {ended.status}: {ended.last_words}")


KIND = DriverKind("command", CommandSettings, CommandDriver)
