"""The operating system's errors, in the words that people know."""

from __future__ import annotations

import os
import re
import socket
import ssl
from typing import Final

_NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})
_NUMBER: Final = re.compile(r"\[Errno (-?\d+)\]")


def plainly(error: BaseException) -> str:
    """Why it failed, such as "connection refused" or "no such file or directory". Where several addresses were tried in
    vain: why the first was.
    """
    inner = getattr(error, "os_error", error)  # aiohttp wraps what happened
    number = _number(inner)
    if number is None:
        return str(inner) or (
            "no answer in time" if isinstance(inner, TimeoutError) else type(inner).__name__
        )
    if number in _NO_SUCH_NAME:
        return "no host has this name"
    if number < 0:
        return "the name of the host cannot be looked up"
    return _small(os.strerror(number))


def _number(error: BaseException) -> int | None:
    if isinstance(error, ssl.SSLError):  # whose numbers are its own
        return None
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _NUMBER.search(str(error))
    return int(found[1]) if found else None


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]
