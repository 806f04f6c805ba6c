"""Where `ssh` shall connect to. The text becomes an argument of a command, so it must not look like an option."""

from __future__ import annotations

import re
from typing import Final

_SSH_TARGET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.@_-]*")


def is_ssh_target(text: str) -> bool:
    """Whether `text` can be a Description's `SSHUserIP`: a host name or address, with or without a user. No port."""
    return _SSH_TARGET.fullmatch(text) is not None
