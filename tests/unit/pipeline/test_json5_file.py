"""Configuration files: what is wrong is said with its place."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Misconfigured
from pipeline.json5_file import parse_json5, read_json5


def test_what_people_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json5"
    path.write_text("\ufeff{ // a rack\n  ports: {'rack4-07': 0x2, b: [1, +.5,],},\n}\n", encoding="utf-8")
    assert read_json5(path) == {"ports": {"rack4-07": 2, "b": [1, 0.5]}}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{a: 1\n b: 2}", r"x\.json5, line 2, column 2"),
        ("{a: [1, 2", r"x\.json5, line 1"),
        ("", r"x\.json5, line 1, column 1"),
        ("[" * 40 + "]" * 40, r"x\.json5, line 1, column 3\d"),
    ],
)
def test_what_is_no_json5_is_told_with_its_place(text: str, place: str) -> None:
    with pytest.raises(Misconfigured, match=place):
        parse_json5(text, "x.json5")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{a: flase}", ": no JSON5: Expected 'a', found 'l'"),
        ("{a: 1\n b: 2}", ": no JSON5: Expected 'comma' or '}', found 'b'"),
    ],
)
def test_characters_are_told_as_people_write_them(text: str, told: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        parse_json5(text, "x")
    assert str(refused.value).endswith(told)


def test_a_key_that_stands_twice_is_told_with_both_places(tmp_path: Path) -> None:
    path = tmp_path / "x.json5"
    path.write_text(
        "{pools: {\n  Lab: {attempts: 1,\n  'attempts': 2},\n  '\\u004cab': {}}, a: [{b: 1}, {b: 1}]}"
    )
    with pytest.raises(Misconfigured) as refused:
        read_json5(path)
    assert str(refused.value).splitlines() == [
        f"{path}, line 3: pools.Lab.attempts stands on line 2, too: remove one",
        f"{path}, line 4: pools.Lab stands on line 2, too: remove one",
    ]
    path.write_text("{" + ", ".join(["a: 1"] * 100) + "}")
    with pytest.raises(Misconfigured) as refused:
        read_json5(path)
    assert len(str(refused.value).splitlines()) == 10


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"cannot read .*No such file"):
        read_json5(tmp_path / "missing")
    binary = tmp_path / "binary"
    binary.write_bytes(b"{a: '\xff'}")
    with pytest.raises(Misconfigured, match="not UTF-8"):
        read_json5(binary)
    binary.write_bytes(b" " * 101)
    with pytest.raises(Misconfigured, match="larger than 100 bytes"):
        read_json5(binary, max_bytes=100)


@given(st.text(max_size=60) | st.text(alphabet="{}[]\"':,/*\\ \n0e.x-", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(Misconfigured):
        parse_json5(text, "x.json5")
