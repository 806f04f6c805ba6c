"""Reads server-sent events: lines in, messages out. Comments, unknown fields and unfinished messages are dropped."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One event of the stream."""

    data: str
    id: str
    """Last id the server gave, on this message or before; empty when it never gave one."""


class SseReader:
    """Puts a stream together, line by line. Not for hostile lines: whoever reads them bounds their length."""

    def __init__(self) -> None:
        self._data: list[str] = []
        self._id = ""

    def feed(self, line: str) -> Message | None:
        """Take a line without its end; return a message when the line completes one."""
        if not line:
            return self._complete()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "id" and "\0" not in value:
            self._id = value
        return None

    def _complete(self) -> Message | None:
        if not self._data:
            return None
        message = Message("\n".join(self._data), self._id)
        self._data = []
        return message
