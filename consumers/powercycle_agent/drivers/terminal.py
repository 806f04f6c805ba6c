"""A command line at the other end of an SSH connection, as a person would use it: prompts, paging, questions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import asyncssh

from consumers.powercycle_agent.drivers.errors import NotConfirmed

CLI_PROMPT: Final = re.compile(r"\([^()\n]{1,64}\) ?(?:\([^()\n]{1,64}\))? ?[>#] ?")
"""Of the switches' own command line: `(UBNT EdgeSwitch) >`, `(UBNT EdgeSwitch) (Config)#`."""
SHELL_PROMPT: Final = re.compile(r"[\w.@:~/ -]{0,80}[#$] ?")
"""Of BusyBox: `US-8-150W-US.v4.0.66# `."""
QUESTION: Final = re.compile(r"(?i)(?P<user>user(?:name)?|login)\s*:\s*|(?P<password>password)\s*:\s*")

_MORE: Final = re.compile(r"-{1,3} ?more ?-{0,3}[^\n]*$", re.IGNORECASE)
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][0-9A-Za-z]|[\x00\x07]")
_OUTPUT_LIMIT: Final = 64 * 1024
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What came after a line was sent."""

    text: str
    """Without the last line."""
    prompt: str
    """The last line, at which the other side waits."""


class Terminal:
    """Sends a line, and reads until the other side waits for the next."""

    def __init__(self, target: str, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._target = target
        self._process = process

    async def read(self, *, sent: bool = False) -> Answer:
        """What the other side says until it waits. `sent`: we typed something, so the prompt comes on a new line.

        Raises `NotConfirmed` if it says too much.
        """
        written = b""
        while len(written) < _OUTPUT_LIMIT:
            chunk = await self._process.stdout.read(4096)
            if not chunk:
                raise asyncssh.ConnectionLost("it hung up")
            written += chunk
            lines = _lines(written.decode("utf-8", "replace"))
            if _MORE.search(lines[-1]):
                written = written[: _start_of_last_line(written)]
                self._process.stdin.write(b" ")
            elif (len(lines) > 1 or not sent) and _is_prompt(lines[-1]):
                return Answer("\n".join(lines[:-1]), lines[-1].strip())
        raise NotConfirmed(f"{self._target} wrote more than {_OUTPUT_LIMIT} bytes without a prompt")

    async def say(self, line: str) -> Answer:
        """Type a line and read the answer; the line itself, if it is echoed, is part of it."""
        self._process.stdin.write(line.encode() + b"\n")
        return await self.read(sent=True)


def shown(text: str) -> str:
    """For an error's text: the last of what was said, on one line."""
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())[-_SHOWN:]


def _is_prompt(line: str) -> bool:
    return any(prompt.fullmatch(line.strip(" ")) for prompt in (CLI_PROMPT, SHELL_PROMPT, QUESTION))


def _lines(text: str) -> list[str]:
    """As they stand on a screen: what a carriage return went back over is gone."""
    plain = re.sub(r"\r+\n", "\n", _CONTROL.sub("", text)).rstrip("\r")
    return [line.rpartition("\r")[2] for line in plain.split("\n")]


def _start_of_last_line(written: bytes) -> int:
    return written.rfind(b"\n") + 1


def table(text: str) -> list[dict[str, str]]:
    """Rows below a line of dashes, by the names right above it; of columns with the same name, the first."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if number > 0 and re.fullmatch(r"\s*-{2,}( +-{2,})+\s*", line):
            spans = [match.span() for match in re.finditer(r"-+", line)]
            names = [lines[number - 1][start:end].strip() for start, end in spans]
            rows = [[row[start:end].strip() for start, end in spans] for row in lines[number + 1 :]]
            return [dict(zip(reversed(names), reversed(row), strict=True)) for row in rows if row[0]]
    return []
