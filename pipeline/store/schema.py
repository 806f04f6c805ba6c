"""Whether a database's tables are what the migrations make: `infra/migrations/expected_schema.json`.

Tells a table that somebody altered by hand from a mistake of ours, before the difference costs data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final

import orjson

from pipeline.store.transaction import Database, Session

Schema = Mapping[str, Mapping[str, Mapping[str, str]]]
"""Table to `columns` (name to type) and `indexes` (name to definition)."""

_COLUMNS: Final = (
    "SELECT table_name, column_name, data_type || CASE is_nullable WHEN 'NO' THEN ' NOT NULL' ELSE '' END"
    " FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, 2"
)
_INDEXES: Final = (
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1, 2"
)
_PLACE: Final = re.compile(r" ON (?:[^\s.]+\.)+")
_SPELLINGS: Final = (
    (" USING inverted ", " USING gin "),
    (" ASC", ""),  # the default, which CockroachDB spells out
)
_CONDITION_IN_BRACKETS: Final = re.compile(r" WHERE \((\w+)\)$")


def expected_schema() -> Schema:
    """What the migrations of this version make of an empty database, in PostgreSQL's words."""
    schema: Schema = orjson.loads((resources.files("infra.migrations") / "expected_schema.json").read_bytes())
    return schema


def live_schema(dsn: str) -> Schema:
    """What the database has. Raises `StoreUnavailable`."""
    database = Database(dsn, threads=1)
    try:
        columns = database.query(_columns)
        indexes = [(*place, same_spelling(definition)) for *place, definition in database.query(_indexes)]
    finally:
        database.close_now()
    found: dict[str, dict[str, dict[str, str]]] = {}
    for part, rows in (("columns", columns), ("indexes", indexes)):
        for table, name, definition in rows:
            found.setdefault(table, {}).setdefault(part, {})[name] = definition
    return found


def schema_differences(expected: Schema, live: Schema) -> Sequence[str]:
    """One sentence for each difference. Tables that are not ours do not count."""
    return [
        _sentence(f"{table}, {part.removesuffix('es').removesuffix('s')} {name}", wanted, has)
        for table, parts in sorted(expected.items())
        for part, definitions in sorted(parts.items())
        for name, wanted, has in _paired(definitions, live.get(table, {}).get(part, {}))
        if wanted != has
    ]


def same_spelling(definition: str) -> str:
    """An index's definition as PostgreSQL writes it, without schema, whether it or CockroachDB wrote it."""
    definition = _PLACE.sub(" ON ", definition, count=1)
    for theirs, ours in _SPELLINGS:
        definition = definition.replace(theirs, ours)
    return _CONDITION_IN_BRACKETS.sub(r" WHERE \1", definition)


def _columns(session: Session) -> list[tuple[Any, ...]]:
    return session.fetch(_COLUMNS)


def _indexes(session: Session) -> list[tuple[Any, ...]]:
    return session.fetch(_INDEXES)


def _paired(
    wanted: Mapping[str, str], has: Mapping[str, str]
) -> Sequence[tuple[str, str | None, str | None]]:
    return [(name, wanted.get(name), has.get(name)) for name in sorted({*wanted, *has})]


def _sentence(place: str, wanted: str | None, has: str | None) -> str:
    if has is None:
        return f"{place}: missing, should be {wanted}"
    if wanted is None:
        return f"{place}: not ours, is {has}"
    return f"{place}: is {has}, should be {wanted}"
