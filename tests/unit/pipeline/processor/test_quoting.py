"""Go's quoting."""

from __future__ import annotations

import pytest

from pipeline.processor.quoting import quoted, quoted_list


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", '""'),
        ("sargo", '"sargo"'),
        ("a b", '"a b"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("\a\b\f\n\r\t\v", '"\\a\\b\\f\\n\\r\\t\\v"'),
        ("\x00\x1b\x7f", '"\\x00\\x1b\\x7f"'),
        ("é日本😀", '"é日本😀"'),
        ("\x80\xa0\xad\u200b\u2028", '"\\u0080\\u00a0\\u00ad\\u200b\\u2028"'),
        ("\U000e0001", '"\\U000e0001"'),
    ],
)
def test_text_is_quoted_as_go_does(text: str, expected: str) -> None:
    assert quoted(text) == expected


def test_a_list_is_quoted_text_by_text() -> None:
    assert quoted_list(["4560MMX_sprout", "sargo"]) == '["4560MMX_sprout" "sargo"]'
    assert quoted_list([]) == "[]"
