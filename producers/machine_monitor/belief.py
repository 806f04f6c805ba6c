"""What this monitor believes the server believes about its machine: the last Description it got, kept on disk as well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from pipeline import logs
from producers.machine_monitor.files import write_whole
from schemas.description import Description
from schemas.wire import ZERO_TIME


class Belief:
    """The last Description. Everybody in the process reads it here; it is replaced whole, never changed in place."""

    def __init__(self, snapshot: Path | None = None, *, attached_device: str | None = None) -> None:
        """`snapshot` outlives the process. `attached_device` overrides what Descriptions say."""
        self._snapshot = snapshot
        self._override = attached_device
        self._current: Description | None = None
        self._known = asyncio.Event()
        self.on_other_device: Callable[[], None] = lambda: None
        """Called when the machine shall be interrogated in another way than before."""

    @property
    def current(self) -> Description | None:
        """None until something is known."""
        return self._current

    @property
    def is_available(self) -> bool:
        """Whether tasks may run: known, and not in maintenance, quarantined or recovering.

        Silence does not count here: whoever asks proves that the machine is not silent.
        """
        known = self._current
        return known is not None and not (known.in_maintenance or known.is_quarantined or known.is_recovering)

    async def known(self) -> Description:
        """The Description, as soon as there is one."""
        await self._known.wait()
        assert self._current is not None
        return self._current

    def restore(self, snapshot: Path | None = None) -> bool:
        """Take up what an earlier run believed, from its own snapshot or another's. False when nothing is readable."""
        file = snapshot or self._snapshot
        if file is None:
            return False
        try:
            self._take(Description.model_validate_json(file.read_bytes()))
        except FileNotFoundError:
            return False
        except (OSError, ValidationError) as error:
            logs.get_logger().warning("last description is unreadable", reason=str(error))
            return False
        return True

    def replace(self, description: Description) -> None:
        """Believe this from now on."""
        before = self._current
        self._take(description)
        if before is None or _lasting(before) != _lasting(description):
            self._save(description)
        if before is not None and _where(before) != _where(description):
            self.on_other_device()

    def _take(self, description: Description) -> None:
        if self._override is not None:
            description = description.model_copy(update={"attached_device": self._override})
        self._current = description
        self._known.set()

    def _save(self, description: Description) -> None:
        if self._snapshot is None:
            return
        try:
            write_whole(self._snapshot, description.model_dump_json().encode())
        except OSError as error:
            logs.get_logger().warning("description is not saved", reason=str(error))


def _where(description: Description) -> tuple[str, str]:
    return description.attached_device, description.ssh_user_ip


def _lasting(description: Description) -> Description:
    """Without what every heartbeat changes, which is not worth wearing out a memory card for."""
    return description.model_copy(
        update={
            "last_updated": ZERO_TIME,
            "row_version": 0,
            "battery": 0,
            "temperature": None,
            "device_uptime_s": 0,
            "monitor_start": ZERO_TIME,
            "monitor_sequence": -1,
        }
    )
