"""Listings as SQL. It is put together from literal pieces only; every value is a parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, LiteralString

from pipeline.store.cursor import KIND_OF, Cursor
from pipeline.store.literals import to_json
from pipeline.store.protocol import Query, SortKey
from pipeline.store.queries import AVAILABLE, WHOLE_ROW
from schemas.health import Health

LONGEST_KEY: Final = 256
"""Characters of a text that count for the order (`left` below); a cursor carries them."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A statement with its parameters. Rows: machine id, sort key, then a whole row."""

    sql: LiteralString
    parameters: Sequence[object]


_HEALTH: Final[Mapping[Health, LiteralString]] = {
    Health.AVAILABLE: AVAILABLE,
    Health.MAINTENANCE: "maintenance_mode <> ''",
    Health.QUARANTINED: "is_quarantined",
    Health.RECOVERING: "recovering <> ''",
    Health.DOWN: "down_since >= '1970-01-01T00:00:00Z'",
    Health.BUSY: "(running_swarming_task OR task_request IS NOT NULL)",
}

_KEY: Final[Mapping[SortKey, LiteralString]] = {
    SortKey.ID: "machine_id",
    SortKey.ATTACHED_DEVICE: "left(attached_device, 256)",
    SortKey.LAST_UPDATED: "last_updated",
    SortKey.BATTERY: "battery",
    SortKey.DEVICE_UPTIME: "device_uptime",
    SortKey.MAINTENANCE_MODE: "left(maintenance_mode, 256)",
    SortKey.RECOVERING: "left(recovering, 256)",
    SortKey.VERSION: "left(version, 256)",
    SortKey.DOWN_SINCE: "down_since",
}


def listing(query: Query, *, limit: int | None, cursor: Cursor | None) -> Listing:
    """The statement for one page of `limit` machines."""
    conditions: list[LiteralString] = []
    parameters: list[object] = []
    if query.dimensions:
        conditions.append("dimensions @> %s::JSONB")
        parameters.append(to_json({name: [value] for name, value in query.dimensions.items()}))
    conditions.extend(_HEALTH[health] for health in dict.fromkeys(query.health))
    if query.attached_device is not None:
        conditions.append("attached_device = %s")
        parameters.append(query.attached_device)
    for word in query.text.casefold().split():
        conditions.append("strpos(search_text, %s) > 0")
        parameters.append(word)
    key = _KEY[query.sort]
    if cursor is not None:
        conditions.append(_behind(query))
        parameters.extend(
            (cursor.machine_id,) if query.sort is SortKey.ID else (cursor.key, cursor.key, cursor.machine_id)
        )
    sql = "SELECT machine_id, " + key + ", " + WHOLE_ROW + " FROM descriptions"  # noqa: S608  # literals only
    if conditions:
        sql += " WHERE " + " AND ".join(conditions)
    sql += " ORDER BY " + key + (" DESC" if query.descending else "") + ", machine_id"
    if limit is not None:
        sql += " LIMIT %s"
        parameters.append(limit)
    return Listing(sql, parameters)


def _behind(query: Query) -> LiteralString:
    key, value = _KEY[query.sort], "%s::" + KIND_OF[query.sort]
    beyond: LiteralString = " < " if query.descending else " > "
    if query.sort is SortKey.ID:  # spelled so that the primary key can be entered at the right place
        return "machine_id" + beyond + "%s"
    return "(" + key + beyond + value + " OR (" + key + " = " + value + " AND machine_id > %s))"
