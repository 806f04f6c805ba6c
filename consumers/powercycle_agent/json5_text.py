"""Reads JSON5 (https://spec.json5.org), and knows on which line each key stands and which ones stand twice.

Own code for two reasons: a machine that is written twice in one object must be found, not swallowed; and what can do that
(the package `json5`) needs four seconds for a file of 5,000 ports, during which an agent would do nothing else. This takes
a hundredth of it. The tests hold it to what that package says.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MAX_DEPTH: Final = 32
"""Objects and lists inside one another."""
_MAX_NUMBER: Final = 100
"""Characters of a number."""

Path = tuple[str | int, ...]
"""The keys and list positions that lead to a value."""

_SPACE = re.compile(
    "(?:[\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]"
    "|//[^\n\r\u2028\u2029]*|/\\*(?s:.*?)\\*/)*"
)
_NUMBER = re.compile(
    r"([+-]?)(?:(0[xX][0-9a-fA-F]+)|(Infinity|NaN)|((?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?))"
)
_WORD = re.compile(r"(?:[\w$\u200c\u200d]|\\u[0-9a-fA-F]{4})+")
_UNICODE_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_PLAIN = {'"': re.compile(r'[^"\\\n\r]*'), "'": re.compile(r"[^'\\\n\r]*")}
_ESCAPE = re.compile(
    "\\\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(0)(?![0-9])|(\r\n|[\n\r\u2028\u2029])|([^0-9ux]))"
)
_ESCAPED: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_LITERALS: Final[Mapping[str, Any]] = {
    "true": True,
    "false": False,
    "null": None,
    "Infinity": float("inf"),
    "NaN": float("nan"),
}
_LINE_END = re.compile("\r\n|[\n\r\u2028\u2029]")


class NotJson5(ValueError):
    """The text is no JSON5. Says where and why, and shows nothing of what stands there but one character."""

    def __init__(self, line: int, column: int, reason: str) -> None:
        """`line` and `column` count from 1."""
        super().__init__(f"line {line}, column {column}: {reason}")
        self.line = line
        self.column = column
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Twice:
    """A key that an object has more than once; its last value counts."""

    path: Path
    line: int
    """Of the later one."""
    first_line: int


@dataclass(frozen=True, slots=True)
class Document:
    """What a text says."""

    value: Any
    """dict, list, str, int, float, bool or None."""
    twice: tuple[Twice, ...] = ()
    _lines: Mapping[Path, int] = field(default_factory=dict, repr=False)

    def line_of(self, path: Path) -> int:
        """Where the key, or the nearest above it that is there, stands."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)


def read(text: str) -> Document:
    """Read a whole text. Raises `NotJson5`."""
    return _Reader(text).document()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._path: list[str | int] = []
        self._keys: dict[Path, int] = {}
        self._twice: list[tuple[Path, int, int]] = []

    def document(self) -> Document:
        self._skip_space()
        value = self._value()
        self._skip_space()
        if self._at < len(self._text):
            raise self._wrong("nothing more is expected here, but there is")
        lines = _Lines(self._text)
        return Document(
            value,
            tuple(Twice(path, lines.line(later), lines.line(first)) for path, later, first in self._twice),
            {path: lines.line(at) for path, at in self._keys.items()},
        )

    def _value(self) -> Any:
        character = self._peek()
        if character in {"{", "["}:
            if len(self._path) >= MAX_DEPTH:
                raise self._wrong(f"more than {MAX_DEPTH} objects and lists inside one another")
            return self._object() if character == "{" else self._list()
        if character in _PLAIN:
            return self._string()
        number = _NUMBER.match(self._text, self._at)
        if number is not None:
            return self._number(number)
        return self._literal()

    def _object(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        opened = self._at
        self._at += 1
        self._skip_space()
        while self._peek() != "}":
            at = self._at
            key = self._key(opened)
            self._path.append(key)
            self._remember(at, known=key in found)
            self._skip_space()
            if self._peek() != ":":
                raise self._wrong(
                    "expected ':' after a key (one with other than letters, digits, _ and $ needs quotes)"
                )
            self._at += 1
            self._skip_space()
            found[key] = self._value()
            self._path.pop()
            self._next("}", opened)
        self._at += 1
        return found

    def _list(self) -> list[Any]:
        found: list[Any] = []
        opened = self._at
        self._at += 1
        self._skip_space()
        while self._peek() != "]":
            self._path.append(len(found))
            found.append(self._value())
            self._path.pop()
            self._next("]", opened)
        self._at += 1
        return found

    def _next(self, closing: str, opened: int) -> None:
        """Go over the comma between two members, or to the end of all."""
        self._skip_space()
        if self._peek() == ",":
            self._at += 1
            self._skip_space()
        elif self._peek() != closing:
            lines = _Lines(self._text)
            raise self._wrong(
                f"expected ',' or the '{closing}' that ends what began on line {lines.line(opened)}"
            )

    def _remember(self, at: int, *, known: bool) -> None:
        path = tuple(self._path)
        if known:
            self._twice.append((path, at, self._keys[path]))
        self._keys[path] = at

    def _key(self, opened: int) -> str:
        if self._peek() in _PLAIN:
            return self._string()
        word = _WORD.match(self._text, self._at)
        if word is None:
            line = _Lines(self._text).line(opened)
            raise self._wrong(f"expected a key, or the '}}' that ends what began on line {line}")
        key = _UNICODE_ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), word[0])
        if not _is_name(key):
            raise self._wrong("this key needs quotes")
        self._at = word.end()
        return key

    def _string(self) -> str:
        began = self._at
        quote = self._peek()
        self._at += 1
        parts: list[str] = []
        while True:
            plain = _PLAIN[quote].match(self._text, self._at)
            assert plain is not None  # it matches nothing, too
            parts.append(plain[0])
            self._at = plain.end()
            if self._peek() == quote:
                self._at += 1
                return self._whole("".join(parts), began)
            if self._peek() != "\\":
                self._at = began
                raise self._wrong("the text that begins here does not end on its line", show=False)
            parts.append(self._escape())

    def _escape(self) -> str:
        escape = _ESCAPE.match(self._text, self._at)
        if escape is None:
            raise self._wrong("there is no such escape after '\\'", show=False)
        self._at = escape.end()
        code, short, zero, line_end, character = escape.groups()
        if code or short:
            return chr(int(code or short, 16))
        if zero:
            return "\0"
        return "" if line_end else _ESCAPED.get(character, character)

    def _whole(self, text: str, began: int) -> str:
        """Join the halves of characters beyond U+FFFF, which may be written as two escapes."""
        if text.isascii():
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._at = began
            raise self._wrong("the text that begins here has half a character", show=False) from None

    def _number(self, number: re.Match[str]) -> int | float:
        sign, hexadecimal, name, decimal = number.groups()
        if number.end() - self._at > _MAX_NUMBER:
            raise self._wrong(f"a number of more than {_MAX_NUMBER} characters", show=False)
        after = self._text[number.end() : number.end() + 1]
        if after and (after in "$\\._" or after.isalnum()):
            raise self._wrong("this is not how a number is written: put texts into quotes", show=False)
        self._at = number.end()
        value: int | float
        if hexadecimal:
            value = int(hexadecimal, 16)
        elif name:
            value = _LITERALS[name]
        else:
            value = int(decimal) if decimal.isdigit() else float(decimal)
        return -value if sign == "-" else value

    def _literal(self) -> Any:
        word = _WORD.match(self._text, self._at)
        if word is None or word[0] not in _LITERALS:
            raise self._wrong("expected a value: a text (in quotes), a number, true, false, null, {…} or […]")
        self._at = word.end()
        return _LITERALS[word[0]]

    def _skip_space(self) -> None:
        space = _SPACE.match(self._text, self._at)
        assert space is not None  # it matches nothing, too
        self._at = space.end()
        if self._text.startswith("/*", self._at):
            raise self._wrong("the comment that begins here does not end", show=False)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _wrong(self, reason: str, *, show: bool = True) -> NotJson5:
        lines = _Lines(self._text)
        line, column = lines.line(self._at), lines.column(self._at)
        if not show:
            return NotJson5(line, column, reason)
        found = f"found {self._peek()!r}" if self._peek() else "the file ends"
        return NotJson5(line, column, f"{reason}; {found}")


def _is_name(key: str) -> bool:
    first = key[0]
    return (first in "$_" or unicodedata.category(first) in {"Lu", "Ll", "Lt", "Lm", "Lo", "Nl"}) and not any(
        0xD800 <= ord(character) <= 0xDFFF for character in key
    )


class _Lines:
    """Finds the line of a place in a text."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(end.end() for end in _LINE_END.finditer(text))]

    def line(self, at: int) -> int:
        return bisect_right(self._starts, at)

    def column(self, at: int) -> int:
        return at - self._starts[self.line(at) - 1] + 1
