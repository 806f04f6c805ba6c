"""PostgreSQL's protocol, version 3, as far as a proxy has to know it: where a message ends and what kind it is.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

_LENGTH: Final = struct.Struct(">I")
_LENGTH_AND_CODE: Final = struct.Struct(">II")

REFUSED: Final = b"N"
"""The answer to who asks for encryption: go on in the clear."""


class StartupCode(IntEnum):
    """What a client's first message is, if it does not start a session."""

    CANCEL = 80877102
    SSL = 80877103
    GSS_ENCRYPTION = 80877104


class Status:
    """Where a session is between two statements, as ReadyForQuery tells it."""

    IDLE: Final = b"I"
    IN_TRANSACTION: Final = b"T"
    ABORTED: Final = b"E"
    """In a transaction that only a ROLLBACK can end."""


class Kind:
    """Letters of the messages that a proxy looks at."""

    QUERY: Final = b"Q"
    ERROR: Final = b"E"
    READY: Final = b"Z"
    COMPLETE: Final = b"C"
    DATA_ROW: Final = b"D"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of an established session."""

    kind: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        """As it travels."""
        return self.kind + _LENGTH.pack(len(self.body) + 4) + self.body


async def read_message(reader: asyncio.StreamReader) -> Message:
    """The next message. Raises `asyncio.IncompleteReadError` or `ConnectionError` when the other side has gone."""
    head = await reader.readexactly(5)
    (length,) = _LENGTH.unpack(head[1:])
    return Message(head[:1], await reader.readexactly(length - 4))


async def read_startup(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The first message of a client, which has no kind: its code (a `StartupCode` or a version) and all of it."""
    head = await reader.readexactly(8)
    length, code = _LENGTH_AND_CODE.unpack(head)
    return code, head + await reader.readexactly(length - 8)


def query(text: str) -> Message:
    """A statement of the simple protocol."""
    return Message(Kind.QUERY, text.encode() + b"\0")


def ready(status: bytes) -> Message:
    """The server is ready for the next statement."""
    return Message(Kind.READY, status)


def error(code: str, text: str, *, severity: str = "ERROR") -> Message:
    """An error as a server reports it."""
    fields = {"S": severity, "V": severity, "C": code, "M": text}
    body = b"".join(key.encode() + value.encode() + b"\0" for key, value in fields.items())
    return Message(Kind.ERROR, body + b"\0")
