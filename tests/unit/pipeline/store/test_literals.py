from __future__ import annotations

from datetime import UTC, datetime

import orjson
import psycopg2.extensions
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Rejected
from pipeline.store.literals import json_array, plain_array, text_array

TEXTS = st.lists(st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))


def read(literal: str) -> list[str | None]:
    """How psycopg2 reads an array of texts that the server sends; the server reads it the same way."""
    texts: list[str | None] = psycopg2.extensions.STRINGARRAY(literal.encode(), None)
    return texts


@given(TEXTS)
def test_any_texts_arrive_as_they_were(texts: list[str | None]) -> None:
    assert read(text_array(texts)) == texts


@pytest.mark.parametrize("text", ["NULL", "", "{}", '"', "\\", ",", " ", "a\nb", "{a,b}", "\\N"])
def test_texts_that_look_like_syntax_are_texts(text: str) -> None:
    assert read(text_array([text, None, text])) == [text, None, text]


@given(
    st.lists(
        st.none()
        | st.dictionaries(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.integers(0, 9)
        )
    )
)
def test_any_documents_arrive_as_they_were(documents: list[dict[str, int] | None]) -> None:
    arrived = [None if text is None else orjson.loads(text) for text in read(json_array(documents))]

    assert arrived == documents


@given(st.text(st.sampled_from('\\u0"a\0')))
def test_a_nul_in_a_document_is_rejected_and_nothing_that_looks_like_one(text: str) -> None:
    """PostgreSQL would refuse it, CockroachDB would not: so we do."""
    if "\0" in text:
        with pytest.raises(Rejected, match="NUL"):
            json_array([None, {"a": [text]}])
    else:
        assert read(json_array([None, text])) == [None, orjson.dumps(text).decode()]


def test_plain_values_need_no_escaping() -> None:
    assert plain_array([1, -2, 2**63 - 1]) == "{1,-2,9223372036854775807}"
    assert plain_array([True, False]) == "{true,false}"
    assert plain_array(["skia-1", "NULL"]) == '{"skia-1","NULL"}'
    assert plain_array([datetime(1, 1, 1, tzinfo=UTC)]) == '{"0001-01-01T00:00:00+00:00"}'
    assert plain_array([]) == "{}"


def test_what_json_cannot_hold_is_rejected() -> None:
    with pytest.raises(Rejected):
        plain_array([2**64])
    with pytest.raises(Rejected):
        json_array([{"a": "\ud800"}])
