"""Where Prometheus finds the metrics of a lab's processes: ports on loopback, and the file that lists them."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Final

from infra.servers.child import free_ports
from producers.labkeeper.screen import Screen

_LOOPBACK: Final = "127.0.0.1"


class ScrapeTargets:
    """Gives each role a port and keeps the file, in the format of Prometheus' `file_sd_configs`, as it is."""

    def __init__(self, file: Path, screen: Screen) -> None:
        self._file = file
        self._screen = screen
        self._ports: dict[str, int] = {}

    def port_of(self, role: str) -> int:
        """A free port for the role that is about to start: the one it had, unless somebody took that meanwhile."""
        had = self._ports.get(role)
        if had is not None and _is_free(had):
            return had
        taken = set(self._ports.values())  # also by roles that do not listen yet
        self._ports[role] = next(port for port in free_ports(len(taken) + 1) if port not in taken)
        self._write()
        return self._ports[role]

    def close(self) -> None:
        """Take the file away: nothing listens any more."""
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            self._screen.complain(f"cannot delete {self._file}: {error.strerror}")

    def _write(self) -> None:
        """Replace the file as a whole, for it may be read at any time. A lab without it is better than none."""
        document = [
            {"targets": [f"{_LOOPBACK}:{port}"], "labels": {"service": role}}
            for role, port in self._ports.items()
        ]
        unfinished = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            unfinished.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
            unfinished.replace(self._file)
        except OSError as error:
            self._screen.complain(f"cannot write {self._file}, by which metrics are found: {error.strerror}")


def _is_free(port: int) -> bool:
    try:
        socket.create_server((_LOOPBACK, port)).close()
    except OSError:
        return False
    return True
