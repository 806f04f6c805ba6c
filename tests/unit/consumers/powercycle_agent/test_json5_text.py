"""The reader of JSON5, held to what the package `json5` says."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from typing import Any

import json5
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumers.powercycle_agent.json5_text import MAX_DEPTH, NotJson5, Twice, read

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
PIECES = st.lists(
    st.sampled_from("{}[]:,a1-+ \n\u2028ü")
    | st.sampled_from(["'b'", '"c"', "'\\x41'", "'\\\n'", "\\u0061", "$d_1", "//x\n", "/*y*/"])
    | st.sampled_from(["0x1F", ".5", "5.", "1e3", "NaN", "Infinity", "true", "null"]),
    max_size=10,
).map("".join)


@given(VALUES)
def test_whatever_json_can_say_is_read(value: Any) -> None:
    assert read(json.dumps(value)).value == value
    assert read(json.dumps(value, ensure_ascii=False, indent=1)).value == value


@given(VALUES)
def test_whatever_the_package_writes_is_read(value: Any) -> None:
    assert read(json5.dumps(value, trailing_commas=True, indent=2)).value == value


@given(PIECES)
@example("{a:1,}")
@example("[,]")
@example("{,}")
@example("01")
@example("+NaN")
@example("1 //x")
@example("'\\0'")
def test_what_is_json5_and_what_is_not_is_as_the_package_has_it(text: str) -> None:
    try:
        expected = json5.loads(text)
    except ValueError:
        with pytest.raises(NotJson5):
            read(text)
        return
    found = read(text).value
    assert found == expected or (isinstance(expected, float) and math.isnan(expected) and math.isnan(found))


@given(st.text(max_size=40) | st.text(alphabet="{}[]:,'\"\\/*ux0123456789abcdef+-.eE \n", max_size=40))
def test_garbage_is_refused_and_nothing_worse(text: str) -> None:
    with suppress(NotJson5):
        read(text)


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("", 1, 1, "the file ends"),
        ("{\n  a: 1\n  b: 2\n}", 3, 3, "expected ',' or the '}' that ends what began on line 1; found 'b'"),
        ("{ rack4-07: 1 }", 1, 8, "needs quotes"),
        ("{ 4a: 1 }", 1, 3, "this key needs quotes"),
        ("{ a: yes }", 1, 6, "expected a value"),
        ("{ a: 10.0.0.1 }", 1, 6, "put texts into quotes"),
        ("{ a: 'x\n' }", 1, 6, "does not end on its line"),
        ("{ a: '\\u12' }", 1, 7, "no such escape"),
        ("{ a: '\\ud800' }", 1, 6, "half a character"),
        ("{} }", 1, 4, "nothing more is expected"),
        ("{ /* }", 1, 3, "does not end"),
        ("[" * 10_000, 1, MAX_DEPTH + 1, "more than 32 objects and lists"),
        ("1" * 101, 1, 1, "a number of more than 100 characters"),
    ],
)
def test_an_error_says_where_and_what(text: str, line: int, column: int, reason: str) -> None:
    with pytest.raises(NotJson5) as refused:
        read(text)
    assert (refused.value.line, refused.value.column) == (line, column)
    assert reason in refused.value.reason


def test_two_escapes_make_one_character_beyond_the_first_plane() -> None:
    assert read(r"'\ud83d\ude00'").value == "😀"


def test_every_key_knows_its_line_and_the_ones_that_stand_twice_are_told() -> None:
    document = read("{\n a: {\r\n  b: 1,\n  'b': 2 },\n c: [{ d: 1 }] }")
    assert document.value == {"a": {"b": 2}, "c": [{"d": 1}]}
    assert document.twice == (Twice(("a", "b"), 4, 3),)
    assert [document.line_of(path) for path in [("a",), ("c", 0, "d"), ("a", "gone"), ()]] == [2, 5, 2, 1]


def test_a_file_of_5000_ports_is_read_in_a_moment() -> None:
    lab = {f"sw{i}": {"ports": {f"rack{i}-{j}": j for j in range(50)}} for i in range(100)}
    began = time.process_time()
    assert read(json.dumps(lab, indent=2)).value == lab
    assert time.process_time() - began < 1
