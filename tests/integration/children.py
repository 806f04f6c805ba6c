"""Modules beside this one that a test runs as processes of their own, and talks to line by line."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

_PATIENCE_S: Final = 60.0


@contextlib.contextmanager
def child(module: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The module, running; killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", f"tests.integration.{module}", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def line_of(process: subprocess.Popen[str]) -> str:
    """What it says next."""
    assert process.stdout is not None
    return (await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), _PATIENCE_S)).strip()


async def go_on(process: subprocess.Popen[str]) -> None:
    """Let it take its next step."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
