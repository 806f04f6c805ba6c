"""Why something failed, in words that people know; and what was never sent."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from pathlib import Path

import pytest

from consumers.powercycle_agent.drivers.errors import NotReached, TurnedAway
from consumers.powercycle_agent.drivers.limits import connecting_within
from consumers.powercycle_agent.drivers.reasons import plainly
from consumers.powercycle_agent.drivers.secrets import Secrets

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), "connection refused"),
        (OSError(errno.EHOSTUNREACH, "Connect call failed ('10.0.0.9', 22)"), "no route to host"),
        (OSError(f"Multiple exceptions: [Errno {errno.ECONNREFUSED}] a, [Errno 99] b"), "connection refused"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "no host has this name"),
        (socket.gaierror(socket.EAI_AGAIN, "again"), "the name of the host cannot be looked up"),
        (FileNotFoundError(errno.ENOENT, "whatever", "/there"), "no such file or directory"),
        (TimeoutError(), "no answer in time"),
        (ssl.SSLError(1, "wrong version number"), "wrong version number"),
        (ValueError("odd"), "odd"),
        (ValueError(), "ValueError"),
    ],
)
def test_an_error_is_told_in_plain_words(error: Exception, words: str) -> None:
    assert words in plainly(error)
    assert "Errno" not in plainly(error)


def test_a_password_file_that_is_not_there_is_told_in_plain_words(tmp_path: Path) -> None:
    file = str(tmp_path / "lost")
    with pytest.raises(TurnedAway, match=rf"from {file}: no such file or directory$"):
        Secrets({}, tmp_path).password(given=None, file=file, variable=None, what="a switch")


async def test_a_connection_that_is_not_made_in_time_reached_nobody() -> None:
    with pytest.raises(NotReached, match=r"cannot connect to rack-1: no answer within 0\.008 s"):
        async with connecting_within(0.01, "rack-1"):
            await asyncio.Event().wait()
