"""Programs of the machine that make servers: found, and run with a bound and without a shell."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from infra.servers.errors import ServerUnavailable


def tool(name: str, advice: str) -> str:
    """Path of a program. Raises `ServerUnavailable` with the advice when there is none."""
    found = shutil.which(name)
    if found is None:
        raise ServerUnavailable(advice)
    return found


def run(
    command: Sequence[str], *, within_s: int, late: str, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it in `folder` to its end, whatever that is. Raises `ServerUnavailable` with `late` when that does not come."""
    try:
        return subprocess.run(  # noqa: S603  # no shell
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ServerUnavailable(f"{late} within {within_s} s") from error
