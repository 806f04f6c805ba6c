from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.labkeeper.text import count_of, printable, rough_duration, short_duration


@pytest.mark.parametrize(
    ("seconds", "exact", "rough"),
    [
        (-5, "0 s", "0 s"),
        (59.9, "59 s", "59 s"),
        (60, "1 min", "1 min"),
        (3_600, "1 h", "1 h"),
        (3_600 + 20 * 60 + 5, "1 h 20 min", "1 h"),
        (86_400 + 3_600, "1 d 1 h", "1 d"),
        (400 * 86_400 + 3_600, "400 d", "400 d"),
    ],
)
def test_a_duration_is_told_in_its_largest_units(seconds: float, exact: str, rough: str) -> None:
    span = timedelta(seconds=seconds)

    assert (short_duration(span), rough_duration(span)) == (exact, rough)


@given(st.text())
def test_printable_text_stays_on_its_line_and_moves_no_cursor(text: str) -> None:
    shown = printable(text)

    assert len(shown.splitlines()) <= 1
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    shown.encode()


def test_ordinary_text_is_left_alone() -> None:
    assert printable("Zoë's 日本, 5 °C 😀") == "Zoë's 日本, 5 °C 😀"


def test_one_is_counted_as_one() -> None:
    assert (count_of(1, "machine"), count_of(0, "machine")) == ("1 machine", "0 machines")
