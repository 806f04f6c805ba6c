"""Where drivers get passwords and keys from: the environment, or files that the configuration names. Never from argv."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from consumers.powercycle_agent.drivers.errors import TurnedAway
from consumers.powercycle_agent.drivers.reasons import plainly

PASSWORD_VARIABLE: Final = "POWERCYCLE_PASSWORD"  # noqa: S105  # a name
"""The password of every controller whose entry names none, as it always was."""


class Secrets:
    """Looks passwords up when they are needed, so that a changed file counts without a restart."""

    def __init__(self, environment: Mapping[str, str], known_hosts: Path) -> None:
        """`known_hosts`: file of the controllers' host keys, which `labkeeper power trust` adds to."""
        self._environment = environment
        self.known_hosts = known_hosts

    def password(self, *, given: str | None, file: str | None, variable: str | None, what: str) -> str:
        """The password of `what`: the one given, else the content of the file, else the variable's, else
        `POWERCYCLE_PASSWORD`'s; surrounding space is cut off. Raises `TurnedAway` when there is none.
        """
        if given:
            return given
        if file is not None:
            try:
                return Path(file).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise TurnedAway(
                    f"cannot read the password of {what} from {file}: {plainly(error)}"
                ) from error
        name = variable or PASSWORD_VARIABLE
        password = self._environment.get(name, "").strip()
        if not password:
            raise TurnedAway(
                f"no password for {what}: set {name}, or name a file with password_file in its entry"
            )
        return password
