"""Where the agent and the `powercycle` command of a host keep what they share: locks, journal and known host keys.

`LABKEEPER_POWERCYCLE_STATE` names the directory. Otherwise it is `/var/lib/labkeeper/powercycle` if that is there or root
asks, and else one in the user's home. `LABKEEPER_POWERCYCLE_KNOWN_HOSTS` names the file of host keys, by default
`known_hosts` in that directory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import platformdirs

from consumers.powercycle_agent.drivers.secrets import Secrets
from pipeline.errors import Misconfigured

CONFIGURATION: Final = Path("/etc/powercycle.json5")
SYSTEM_STATE: Final = Path("/var/lib/labkeeper/powercycle")

STATE_VARIABLE: Final = "LABKEEPER_POWERCYCLE_STATE"
KNOWN_HOSTS_VARIABLE: Final = "LABKEEPER_POWERCYCLE_KNOWN_HOSTS"


def state_directory(environment: Mapping[str, str], *, system: Path = SYSTEM_STATE) -> Path:
    """The directory; it need not be there yet.

    Raises `Misconfigured` when there is one of the whole host but not for this user: with a directory of its own, a second
    process would not see the first one's locks.
    """
    directory = _directory(environment, system)
    if directory == system and os.geteuid() != 0 and not os.access(system, os.W_OK | os.X_OK):
        raise Misconfigured(
            f"{system} belongs to this host's power agent, and this user cannot write there: work as the agent's user, or "
            f"join its group; {STATE_VARIABLE} names another directory, for ports that the agent does not drive"
        )
    return directory


def _directory(environment: Mapping[str, str], system: Path) -> Path:
    named = environment.get(STATE_VARIABLE, "")
    if named:
        return Path(named)
    if os.geteuid() == 0:
        return system
    try:
        is_there = system.is_dir()
    except PermissionError:  # a directory above it is closed: there is one, and it is not for us
        is_there = True
    return system if is_there else platformdirs.user_state_path("labkeeper") / "powercycle"


def known_hosts(environment: Mapping[str, str], *, system: Path = SYSTEM_STATE) -> Path:
    """The file of the controllers' host keys; it need not be there yet."""
    named = environment.get(KNOWN_HOSTS_VARIABLE, "")
    return Path(named) if named else _directory(environment, system) / "known_hosts"


def secrets_of(environment: Mapping[str, str]) -> Secrets:
    """Where the drivers of this process get passwords and host keys from."""
    return Secrets(environment, known_hosts(environment))
