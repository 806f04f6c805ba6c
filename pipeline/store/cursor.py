"""The cursor that leads from one page of a listing to the next: what the last machine was sorted by, and its id."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import orjson

from pipeline.store.literals import to_json
from pipeline.store.protocol import Query, SortKey

Kind = Literal["TEXT", "BIGINT", "TIMESTAMPTZ"]

KIND_OF: Final[Mapping[SortKey, Kind]] = {
    SortKey.ID: "TEXT",
    SortKey.ATTACHED_DEVICE: "TEXT",
    SortKey.LAST_UPDATED: "TIMESTAMPTZ",
    SortKey.BATTERY: "BIGINT",
    SortKey.DEVICE_UPTIME: "BIGINT",
    SortKey.MAINTENANCE_MODE: "TEXT",
    SortKey.RECOVERING: "TEXT",
    SortKey.VERSION: "TEXT",
    SortKey.DOWN_SINCE: "TIMESTAMPTZ",
}
"""SQL type of each sort key."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last machine of a page."""

    key: str | int
    """What it was sorted by; a time as RFC 3339."""
    machine_id: str


def check_limit(limit: int | None) -> None:
    """Raise ValueError unless a page of this size can hold something."""
    if limit is not None and limit < 1:
        raise ValueError("a limit is at least 1")


def write_cursor(query: Query, key: str | int | datetime, machine_id: str) -> str:
    """The opaque text for a caller."""
    plain = [query.sort.value, query.descending, key, machine_id]
    return base64.urlsafe_b64encode(to_json(plain).encode()).decode().rstrip("=")


def read_cursor(query: Query, text: str | None) -> Cursor | None:
    """Take one back. Raises ValueError if it is none of ours, or was made for another order."""
    if text is None:
        return None
    try:
        plain = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError) as error:
        raise ValueError("the cursor is not one that a listing gave") from error
    match plain:
        case [query.sort.value, query.descending, str() | int() as key, str() as machine_id]:
            cursor = Cursor(key, machine_id)
        case _:
            raise ValueError("the cursor does not belong to this order of the listing")
    if not _fits(query.sort, cursor):
        raise ValueError("the cursor is not one that a listing gave")
    return cursor


def _fits(sort: SortKey, cursor: Cursor) -> bool:
    kind = KIND_OF[sort]
    if "\0" in f"{cursor.key}{cursor.machine_id}":
        return False
    if kind == "BIGINT":
        return type(cursor.key) is int and -(2**63) <= cursor.key < 2**63
    if kind == "TEXT":
        return isinstance(cursor.key, str)
    return isinstance(cursor.key, str) and _is_time(cursor.key)


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
