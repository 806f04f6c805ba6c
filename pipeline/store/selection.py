"""Listings of machines that are held in memory: the same conditions and order as in `listing.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pipeline.store.columns import search_text
from pipeline.store.cursor import KIND_OF, Cursor
from pipeline.store.listing import LONGEST_KEY
from pipeline.store.protocol import Query, SortKey
from schemas.description import Description
from schemas.health import Health

_HEALTH_OF: Final[Mapping[Health, Callable[[Description], bool]]] = {
    Health.AVAILABLE: lambda each: each.is_available,
    Health.MAINTENANCE: lambda each: each.in_maintenance,
    Health.QUARANTINED: lambda each: each.is_quarantined,
    Health.RECOVERING: lambda each: each.is_recovering,
    Health.DOWN: lambda each: each.is_down,
    Health.BUSY: lambda each: each.is_busy,
}

_KEY_OF: Final[Mapping[SortKey, Callable[[str, Description], Any]]] = {
    SortKey.ID: lambda machine_id, _: machine_id,
    SortKey.ATTACHED_DEVICE: lambda _, each: each.attached_device[:LONGEST_KEY],
    SortKey.LAST_UPDATED: lambda _, each: each.last_updated,
    SortKey.BATTERY: lambda _, each: each.battery,
    SortKey.DEVICE_UPTIME: lambda _, each: each.device_uptime_s,
    SortKey.MAINTENANCE_MODE: lambda _, each: each.maintenance_mode[:LONGEST_KEY],
    SortKey.RECOVERING: lambda _, each: each.recovering[:LONGEST_KEY],
    SortKey.VERSION: lambda _, each: each.version[:LONGEST_KEY],
    SortKey.DOWN_SINCE: lambda _, each: each.down_since,
}


def select(query: Query, machines: Mapping[str, Description]) -> list[tuple[str, Any, Description]]:
    """What `listing` selects, in its order: machine id, sort key, Description."""
    words = query.text.casefold().split()
    key_of = _KEY_OF[query.sort]
    found = [
        (machine_id, key_of(machine_id, each), each)
        for machine_id, each in machines.items()
        if _matches(query, machine_id, each, words)
    ]
    found.sort(key=lambda row: row[0])
    found.sort(key=lambda row: row[1], reverse=query.descending)
    return found


def _matches(query: Query, machine_id: str, each: Description, words: Sequence[str]) -> bool:
    text = search_text(machine_id, each) if words else ""
    return (
        all(value in each.dimension(name) for name, value in query.dimensions.items())
        and all(_HEALTH_OF[health](each) for health in query.health)
        and query.attached_device in (None, each.attached_device)
        and all(word in text for word in words)
    )


def rest(query: Query, rows: list[tuple[str, Any, Description]], cursor: Cursor | None) -> list[Any]:
    """The selected rows behind the cursor."""
    if cursor is None:
        return rows
    key: Any = cursor.key
    if KIND_OF[query.sort] == "TIMESTAMPTZ":
        key = datetime.fromisoformat(key)
    return [row for row in rows if _lies_behind(row, key, cursor.machine_id, descending=query.descending)]


def _lies_behind(row: tuple[str, Any, Description], key: Any, machine_id: str, *, descending: bool) -> bool:
    if row[1] == key:
        return row[0] > machine_id
    further: bool = row[1] < key if descending else row[1] > key
    return further
