"""Gets the access token. What it is never shows: not in logs, not in argv."""

from __future__ import annotations

import asyncio
from typing import Final

from pipeline.errors import Misconfigured
from producers.swarming_poller.settings import TokenSource

_LIMIT_S: Final = 30.0


async def read_token(source: TokenSource) -> str | None:
    """The token as it is now; None: none is used. Raises `Misconfigured`."""
    if source.file is not None:
        try:
            return _token(source.file.read_text("utf-8"), f"the file {source.file}")
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(f"cannot read the token from {source.file}: {error}") from error
    if source.command:
        return _token(await _printed(source.command), f"what {source.command[0]} prints")
    return None if source.value is None else _token(source.value, "the variable of the token")


def _token(text: str, where: str) -> str:
    """The text as a token: one word, which a header can carry. Raises `Misconfigured`."""
    token = text.strip()
    if not (token and token.isascii() and token.isprintable() and " " not in token):
        what = "is not a token alone: it must be one word" if token else "is empty: put a token there"
        raise Misconfigured(f"{where} {what}")
    return token


async def _printed(command: tuple[str, ...]) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise Misconfigured(f"cannot run {command[0]} for a token: {error.strerror}") from error
    try:
        async with asyncio.timeout(_LIMIT_S):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise Misconfigured(f"{command[0]} printed no token within {_LIMIT_S:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    token = output.decode(errors="replace")
    if process.returncode != 0 or not token.strip():
        raise Misconfigured(
            f"{command[0]} gave no token (exit code {process.returncode}): log in with it first"
        )
    return token
