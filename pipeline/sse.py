"""Reading server-sent events (WHATWG HTML, section 9.2) from bytes as they come. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from pipeline.errors import Rejected

LONGEST_EVENT: Final = 32 * 1024 * 1024
"""Bytes. A machine is some 10 KB; what grows beyond this is not a façade's stream."""
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_LONGEST_RETRY: Final = 60.0


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event."""

    kind: str
    """`message` when the stream gave it no name."""
    data: str
    id: str
    """The last id of the stream so far; empty when it has given none."""


class EventStream:
    """Makes events of chunks. One for each connection; `last_id` is what to resume from."""

    def __init__(self, *, last_id: str = "", longest_event: int = LONGEST_EVENT) -> None:
        """`longest_event` in bytes."""
        self.last_id = last_id
        self._longest_event = longest_event
        self.retry_seconds: float | None = None
        """How long the server asks us to wait before we connect again."""
        self._rest = b""
        self._start = True
        self._after_return = False
        self._kind = ""
        self._data: list[str] = []
        self._size = 0

    def resumed(self) -> Self:
        """For the next connection, which goes on behind the last id."""
        return type(self)(last_id=self.last_id, longest_event=self._longest_event)

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Events that end in this chunk. Raises `Rejected` when one grows beyond all bounds."""
        if self._after_return and chunk:  # the chunk before ended between the two halves of a line's end
            chunk = chunk.removeprefix(b"\n")
            self._after_return = False
        *lines, rest = _LINE_END.split(chunk)
        self._after_return = chunk.endswith(b"\r")
        for line in lines:
            whole, self._rest = self._rest + line, b""
            yield from self._take(whole)
        self._rest += rest
        if self._size + len(self._rest) > self._longest_event:
            raise Rejected("the stream holds an event that is too large to be a façade's: check --url")

    def _take(self, line: bytes) -> Iterator[ServerSentEvent]:
        if self._start:
            line = line.removeprefix(b"\xef\xbb\xbf")
            self._start = False
        if not line:
            yield from self._dispatch()
        elif not line.startswith(b":"):
            name, _, value = line.decode("utf-8", "replace").partition(":")
            self._field(name, value.removeprefix(" "))
            self._size += len(line)

    def _field(self, name: str, value: str) -> None:
        match name:
            case "event":
                self._kind = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self.last_id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_seconds = min(int(value[:9]) / 1000, _LONGEST_RETRY)
            case _:
                pass  # the standard says to ignore it

    def _dispatch(self) -> Iterator[ServerSentEvent]:
        if self._data:
            yield ServerSentEvent(self._kind or "message", "\n".join(self._data), self.last_id)
        self._kind, self._data, self._size = "", [], 0
