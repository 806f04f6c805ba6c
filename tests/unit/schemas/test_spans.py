"""Spans of time as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from schemas.spans import read_span, span_text


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400), ("0s", 0)]
)
def test_a_span_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert read_span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value", ["", "10", "m", "-1m", "1.5h", "10 m", "1w", "\u0661h", "1234567s", 600, None]
)
def test_anything_else_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match='such as "90s", "10m", "2h" or "1d"'):
        read_span(value)


@pytest.mark.parametrize("text", ["90s", "10m", "2h", "1d", "36h"])
def test_it_is_written_in_the_largest_unit_that_fits(text: str) -> None:
    assert span_text(read_span(text)) == text
