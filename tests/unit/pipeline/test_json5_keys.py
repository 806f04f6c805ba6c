"""Where keys stand in a text, whatever it looks like."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Misconfigured
from pipeline.json5_file import KeyPath, KeyPlaces, Twice, find_keys, parse_json5

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=8,
)
PIECES = st.lists(
    st.sampled_from("{}[]:,a1- \n\u2028ü")
    | st.sampled_from(
        ["'b'", '"c"', "'\\x41'", "'\\\n'", "\\u0061", "$d_1", "//x\n", "/*'{*/", "'}'", "'\\''"]
    )
    | st.sampled_from(["{a:", "'b':", "0x1F", ".5", "true", "null", "NaN"]),
    max_size=10,
).map("".join)


def paths(value: Any, above: KeyPath = ()) -> Iterator[KeyPath]:
    """The paths of all keys of a value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*above, key)
            yield from paths(inner, (*above, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, (*above, index))


@given(VALUES, st.booleans(), st.none() | st.just(1))
def test_every_key_is_found_once(value: Any, ascii_only: bool, indent: int | None) -> None:
    found = find_keys(json.dumps(value, ensure_ascii=ascii_only, indent=indent))
    assert set(found.lines) == set(paths(value))
    assert found.twice == ()


@given(PIECES)
def test_what_the_reader_reads_has_its_keys_found(text: str) -> None:
    try:
        value = parse_json5(text, "x")
    except Misconfigured:
        return
    assert set(paths(value)) <= set(find_keys(text).lines)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("{}", {}),
        ("{a: 1}", {("a",): 1}),
        ("{\n a: {\r\n  'b': 1,\r c: [{ d: 1 }, [], { e: {} }] } }", {("a", "c", 2, "e"): 4, ("a", "b"): 3}),
        ("// {x: 1}\n/* {y: '\n */ { \"z'\": '{', t: ':,}' }", {("z'",): 3, ("t",): 3}),
        ("{ '\\u0061\\\n': 1,\n \\u0062: 'c' }", {("a",): 1, ("b",): 3}),
        ("{ 'it\\'s': 1, rack4_07: -.5e1, $: +Infinity }", {("it's",): 1, ("rack4_07",): 1, ("$",): 1}),
    ],
)
def test_keys_know_their_lines(text: str, places: dict[KeyPath, int]) -> None:
    parse_json5(text, "x")  # it is one
    found = find_keys(text).lines
    assert {path: found[path] for path in places} == places
    if len(places) < 2:
        assert found == places


def test_keys_that_stand_twice_are_told_however_they_are_written() -> None:
    found = find_keys("{ a: { b: 1,\n 'b': 2 }, c: [{ b: 1 }, { b: 1 }],\n '\\u0061': 3 }")
    assert found.twice == (Twice(("a", "b"), 2, 1), Twice(("a",), 3, 1))


def test_a_key_that_is_not_there_has_the_line_of_what_it_belongs_to() -> None:
    places = KeyPlaces({("a",): 4}, ())
    assert [places.line_of(path) for path in [("a", "b", "c"), ("z",), ()]] == [4, 1, 1]


def test_a_file_of_5000_ports_takes_a_moment() -> None:
    lab = {f"sw{i}": {"ports": {f"rack{i}-{j}": j for j in range(50)}} for i in range(100)}
    began = time.process_time()
    assert len(find_keys(json.dumps(lab, indent=2)).lines) == 5_200
    assert time.process_time() - began < 1
