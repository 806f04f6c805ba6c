"""Rows that were read or written lately, so that a batch of heartbeats need not read them again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from schemas.description import Description


class RowCache:
    """The latest Descriptions by machine id, the least recently used going first. Safe for several threads.

    It may be out of date: whoever uses a Description first compares its `row_version` with the locked row's. That is
    enough, because a version is never used twice for one id, not even across a deletion.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rows: OrderedDict[str, Description] = OrderedDict()
        self._lock = threading.Lock()

    def latest(self, machine_ids: Iterable[str]) -> dict[str, Description]:
        """Those that are remembered, in whatever version."""
        with self._lock:
            rows = self._rows
            return {each: rows[each] for each in machine_ids if each in rows}

    def find(self, versions: Iterable[tuple[str, int]]) -> dict[str, Description]:
        """Those that are remembered in exactly these versions."""
        found: dict[str, Description] = {}
        with self._lock:
            rows = self._rows
            for machine_id, version in versions:
                description = rows.get(machine_id)
                if description is not None and description.row_version == version:
                    found[machine_id] = description
                    rows.move_to_end(machine_id)
        return found

    def remember(self, descriptions: Mapping[str, Description]) -> None:
        """Take note of committed rows."""
        with self._lock:
            rows = self._rows
            for machine_id, description in descriptions.items():
                rows[machine_id] = description
                rows.move_to_end(machine_id)
            while len(rows) > self._capacity:
                rows.popitem(last=False)

    def clear(self) -> None:
        """Forget all: after a lost connection the database may be an older copy of itself."""
        with self._lock:
            self._rows.clear()
