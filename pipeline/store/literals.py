"""Columns of values as PostgreSQL array literals: one parameter a column, which the server takes apart by itself.

A list of Python values would do as well, but psycopg2 writes it as one expression an element; the server then needs
twice the time for a whole batch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import orjson

from pipeline.errors import Rejected

_NUL: Final = re.compile(r"(?<!\\)(\\\\)*\\u0000")
"""In JSON. Behind an even number of backslashes the next one begins an escape."""


def plain_array(values: Sequence[object]) -> str:
    """Integers, booleans, times, and texts of letters, digits and punctuation other than quotes and backslashes.

    For those, a JSON array is an array literal but for its brackets.
    """
    return "{" + to_json(values)[1:-1] + "}"


def text_array(values: Iterable[str | None]) -> str:
    """Any texts; None is NULL."""
    return "{" + ",".join([_quoted(value) for value in values]) + "}"


def json_array(values: Iterable[object]) -> str:
    """Documents, for a `text[]` whose elements are cast to JSONB (CockroachDB has no arrays of JSONB); None is NULL.

    Raises `Rejected` like `to_json`, and like `documents_array`.
    """
    return documents_array([None if value is None else to_json(value) for value in values])


def documents_array(documents: Sequence[str | None]) -> str:
    """Documents that are JSON already. Raises `Rejected` for NUL characters: PostgreSQL takes none, CockroachDB would."""
    array = text_array(documents)
    if "u0000" in array and any(each is not None and has_nul(each) for each in documents):
        raise Rejected("the database does not take it: text must not contain NUL characters")
    return array


def has_nul(document: str) -> bool:
    """Whether a text in this JSON contains a NUL character."""
    return _NUL.search(document) is not None


def to_json(value: object) -> str:
    """The value as JSON. Raises `Rejected` for lone surrogates and integers beyond 64 bits."""
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:  # orjson.JSONEncodeError is one
        raise Rejected(f"the database does not take it: {error}") from error


def _quoted(value: str | None) -> str:
    if value is None:
        return "NULL"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
