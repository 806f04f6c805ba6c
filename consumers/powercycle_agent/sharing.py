"""Files of the state directory are for whoever the directory is for: agent and `powercycle` command need not be the same user.

What root makes in the agent's directory would else be closed to the agent, with a port off; and what a member of its group
makes as well. But who may write there must not lead root elsewhere: no link is followed, and what root gives away it has opened.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

_FOR_OWNER: Final = 0o600
_FOR_GROUP: Final = 0o060


def make_directory(directory: Path) -> None:
    """Make it, and those above it, unless it is there. Raises OSError."""
    if directory.is_dir():
        return
    directory.mkdir(parents=True, exist_ok=True)
    above = directory.parent.stat()
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            os.fchown(descriptor, _owner(above, os.fstat(descriptor)), above.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(above.st_mode) & 0o2770)
    finally:
        os.close(descriptor)


def share(descriptor: int, directory: Path) -> None:
    """Give a file that we have made to owner and group of its directory, as far as we may."""
    above, file = directory.stat(), os.fstat(descriptor)
    owner = _owner(above, file)
    mode = _FOR_OWNER | (above.st_mode & _FOR_GROUP)
    with suppress(OSError):
        if (file.st_uid, file.st_gid) != (owner, above.st_gid):
            os.fchown(descriptor, owner, above.st_gid)
        if stat.S_IMODE(file.st_mode) != mode:
            os.fchmod(descriptor, mode)


def _owner(above: os.stat_result, made: os.stat_result) -> int:
    return above.st_uid if os.geteuid() == 0 else made.st_uid
