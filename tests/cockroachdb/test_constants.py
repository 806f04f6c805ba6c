"""What we write into a statement is what CockroachDB reads out of it: arrays, documents, times. Its own code reads them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import psycopg2
import pytest

from pipeline.store.literals import json_array, plain_array, text_array, to_json
from tests.cockroachdb.conftest import Parse
from tests.cockroachdb.program import Answer, Constant

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

TEXTS: Final = [
    None, "", "NULL", "null", "{}", "{a,b}", '"', "\\", "\\\\", "\\N", "'", "''", "a'b", " a ", ",", "a\nb\tc\r",
    "%s %% 50%", "ümläut ☃ 𝄞", "\x01\x7f", "--", ";", "$$", "E'\\x00'", "\\u0000",
]  # fmt: skip
DOCUMENTS: Final = [
    {},
    {"os": ["Android"], 'o"d': ["x' OR TRUE --", "\\", "\\u0000"], "none": None},
    {"tiny": 1.5e-300, "huge": -1.7e300, "plain": 35.0, "long": 2**63 - 1, "small": -99},
    {"": "", "awkward": "quotes \" ' {}, ☃ 𝄞\t\n\x7f"},
    [],
    "text",
]
TIMES: Final = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
]


@pytest.fixture
def cursor(database_url: str) -> Iterator[Any]:
    """Fills parameters in as the store's connections do."""
    with contextlib.closing(psycopg2.connect(database_url)) as connection, connection.cursor() as opened:
        yield opened


@pytest.fixture
def read(parse: Parse, cursor: Any) -> Any:
    """What CockroachDB reads where `parameter` is cast to `kind`."""

    def ask(parameter: object, kind: str) -> Constant:
        (answer,) = parse([cursor.mogrify(f"SELECT %s::{kind}", (parameter,)).decode()])
        assert answer.error == ""
        return answer.statements[0].constants[0]

    return ask


def test_every_constant_that_the_store_sends_can_be_read(answers: list[Answer]) -> None:
    constants = [
        each for answer in answers for statement in answer.statements for each in statement.constants
    ]

    assert [each for each in constants if each.error] == []
    assert {each.type for each in constants} >= {
        "STRING[]",
        "INT8[]",
        "BOOL[]",
        "TIMESTAMPTZ[]",
        "JSONB",
        "BYTES",
    }


def test_a_constant_that_cannot_be_read_is_noticed(read: Any) -> None:
    assert read("{", "TEXT[]").error
    assert read("{1,x}", "BIGINT[]").error
    assert read("{", "JSONB").error
    assert read("yesterday at noon", "TIMESTAMPTZ").error


def test_texts_arrive_as_they_were(read: Any) -> None:
    assert list(read(text_array(TEXTS), "TEXT[]").elements) == TEXTS


def test_documents_arrive_as_they_were(read: Any) -> None:
    """Also numbers: they are decimals there, and come back as the same floats."""
    carried = read(json_array([*DOCUMENTS, None]), "TEXT[]").elements

    assert carried[-1] is None
    for document, text in zip(DOCUMENTS, carried, strict=False):
        (stored,) = read(text, "JSONB").elements
        assert orjson.loads(stored) == document
    for document in DOCUMENTS:
        (stored,) = read(to_json(document), "JSONB").elements
        assert orjson.loads(stored) == document


def test_times_numbers_and_flags_arrive_as_they_were(read: Any) -> None:
    times = read(plain_array(TIMES), "TIMESTAMPTZ[]").elements

    assert [_time(each) for each in times] == TIMES
    assert [_time(read(each, "TIMESTAMPTZ").elements[0]) for each in TIMES] == TIMES
    assert read(plain_array([-99, 2**63 - 1, -(2**63)]), "BIGINT[]").elements == (
        "-99",
        "9223372036854775807",
        "-9223372036854775808",
    )
    assert len(read(plain_array([True, False]), "BOOLEAN[]").elements) == 2


def test_bytes_and_spans_of_time_arrive_as_they_were(read: Any) -> None:
    assert read(psycopg2.Binary(b"\x00\xff'\\"), "BYTEA").elements == ("\\x00ff275c",)
    assert read(timedelta(seconds=15), "INTERVAL").elements == ("00:00:15",)
    assert read(timedelta(seconds=1.5), "INTERVAL").elements == ("00:00:01.5",)


def test_cockroachdb_would_store_a_nul_character_which_is_why_we_refuse_it(read: Any) -> None:
    """PostgreSQL refuses it by itself, and what one of them takes the other must be able to hold."""
    assert read('{"a": "\\u0000"}', "JSONB").error == ""


def _time(text: str) -> datetime:
    """A time as PostgreSQL and CockroachDB write it."""
    return datetime.fromisoformat(re.sub(r"([+-]\d\d)$", r"\1:00", text))
