"""The file by which a task asks that its machine be taken out of service.

It is reported once and removed only when the report was accepted; a file that was written anew since is another one.
"""

from __future__ import annotations

from pathlib import Path

from pipeline import logs


class QuarantineFile:
    """`<machine id>.force_quarantine` in the home folder of the tasks' user."""

    def __init__(self, home: Path, machine_id: str) -> None:
        self._path = home / f"{machine_id}.force_quarantine"
        self._reported = ""
        """A stamp whose file was reported but could not be removed."""

    def stamp(self) -> str:
        """Names the file that waits to be reported, by its identity on disk; empty when there is none."""
        stamp = self._stamp()
        return "" if stamp == self._reported else stamp

    def accepted(self, stamp: str) -> None:
        """The report about the file with this stamp has arrived: remove it."""
        if not stamp or self._stamp() != stamp:
            return
        try:
            self._path.unlink()
        except OSError as error:
            self._reported = stamp
            logs.get_logger().warning(
                "quarantine file stays", file=str(self._path), reason=error.strerror or str(error)
            )

    def _stamp(self) -> str:
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return ""
        except OSError as error:
            logs.get_logger().warning("quarantine file is unreadable", reason=error.strerror or str(error))
            return ""
        return f"{found.st_dev}:{found.st_ino}:{found.st_mtime_ns}"
