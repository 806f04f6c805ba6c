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
            return source.file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(f"cannot read the token from {source.file}: {error}") from error
    if source.command:
        return await _printed(source.command)
    return source.value


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
    token = output.decode(errors="replace").strip()
    if process.returncode != 0 or not token:
        raise Misconfigured(
            f"{command[0]} gave no token (exit code {process.returncode}): log in with it first"
        )
    return token
