"""Where the keys of a JSON5 text stand, and which ones stand twice in their object.

The reader of JSON5 tells neither: of two keys it takes the last. A machine that is written twice would lose one of its ports
unseen, and another machine's power be cut for it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.json5_file import parse_json5

KeyPath = tuple[str | int, ...]
"""The keys and list positions that lead to a value."""

_TOKEN = re.compile(
    r"""(?P<space>[\s\ufeff]+|//[^\n\r\u2028\u2029]*|/\*.*?\*/)
    |(?P<string>"[^"\\]*(?:\\.[^"\\]*)*"|'[^'\\]*(?:\\.[^'\\]*)*')
    |(?P<mark>[{}\[\]:,])
    |(?P<word>[^\s\ufeff{}\[\]:,"'/]+)""",
    re.DOTALL | re.VERBOSE,
)
_LINE_END = re.compile("\r\n|[\n\r\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Twice:
    """A key that an object has more than once."""

    path: KeyPath
    line: int
    """Of the later one."""
    first_line: int


@dataclass(frozen=True, slots=True)
class KeyPlaces:
    """The keys of one text."""

    lines: Mapping[KeyPath, int]
    twice: tuple[Twice, ...]

    def line_of(self, path: KeyPath) -> int:
        """Where the key, or the nearest above it that is there, stands; lines count from 1."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def find_keys(text: str) -> KeyPlaces:
    """Find them in a text that is known to be JSON5."""
    starts = [0, *(end.end() for end in _LINE_END.finditer(text))]
    lines: dict[KeyPath, int] = {}
    twice: list[Twice] = []
    for path, at in _keys(text):
        line = bisect_right(starts, at)
        if path in lines:
            twice.append(Twice(path, line, lines[path]))
        lines[path] = line
    return KeyPlaces(lines, tuple(twice))


def _keys(text: str) -> list[tuple[KeyPath, int]]:
    """Every key with its place, counted in characters, in the order in which they stand."""
    found: list[tuple[KeyPath, int]] = []
    path: list[str | int] = []
    objects: list[bool] = []
    key_comes = False
    for token in _TOKEN.finditer(text):
        match token.lastgroup, token[0]:
            case "mark", "{" | "[" as opening:
                key_comes = opening == "{"
                objects.append(key_comes)
                path.append(0)
            case "mark", "}" | "]":
                key_comes = False
                objects.pop()
                path.pop()
            case "mark", ",":
                key_comes = objects[-1]
                if isinstance(path[-1], int):
                    path[-1] += 1
            case (("string" | "word"), said) if key_comes:
                key_comes = False
                path[-1] = _name(said)
                found.append((tuple(path), token.start()))
    return found


def _name(said: str) -> str:
    """The key that stands there, with or without quotes."""
    if "\\" in said:
        return str(next(iter(parse_json5(f"{{{said}:0}}", "a key"))))
    return said[1:-1] if said[0] in "\"'" else said
