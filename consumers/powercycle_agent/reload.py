"""Notices that the configuration has changed, and reads it; a bad one changes nothing.

Bad is also one in which a controller cannot be used that could be until now. A new one that cannot be used is taken, and
reported as in error: nothing is lost with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from consumers.powercycle_agent.inventory import Inventory
from pipeline import logs, metrics
from pipeline.broker.waiting import is_set_within
from pipeline.errors import Misconfigured
from pipeline.json5_file import file_mark

log = logs.get_logger()


class Configuration:
    """The file, and what it said last that could be used."""

    def __init__(self, path: Path, read: Callable[[Path], Inventory]) -> None:
        """Reads it at once. Raises `Misconfigured`: there is no configuration before it to stay with."""
        self._path = path
        self._read = read
        self._seen = file_mark(path)
        self.inventory = read(path)
        self._tell(is_new=True)
        self.reload = asyncio.Event()
        """Set: read it again, whether it looks changed or not."""

    async def watch(self, every: timedelta, changed: Callable[[Inventory], None]) -> None:
        """Tell of every new configuration that can be used, until cancelled."""
        while True:
            asked = await is_set_within(self.reload, every.total_seconds())
            self.reload.clear()
            seen = await asyncio.to_thread(file_mark, self._path)
            if seen == self._seen and not asked:
                continue
            self._seen = seen
            if await self._take():
                changed(self.inventory)

    async def _take(self) -> bool:
        try:
            inventory = await asyncio.to_thread(self._read, self._path)
            _check_nothing_breaks(self.inventory, inventory)
        except Misconfigured as error:
            metrics.POWER_RELOADS_FAILED.inc()
            log.error(  # noqa: TRY400  # no bug
                "configuration_not_taken",
                reason=str(error),
                note="the one before stays in force until this is mended",
            )
            return False
        is_new = inventory != self.inventory
        self.inventory = inventory
        self._tell(is_new=is_new)
        return is_new

    def _tell(self, *, is_new: bool) -> None:
        controllers = self.inventory.controllers
        machines = sum(len(each.ports) for each in controllers)
        log.info(
            "configuration_taken",
            path=str(self._path),
            controllers=len(controllers),
            machines=machines,
            changed=is_new,
        )


def _check_nothing_breaks(before: Inventory, after: Inventory) -> None:
    usable = {controller.name for controller in before.controllers if not controller.problem}
    broken = [each.problem for each in after.controllers if each.problem and each.name in usable]
    if broken:
        raise Misconfigured("; ".join(broken))
