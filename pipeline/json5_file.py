"""Reads configuration files in JSON5 (https://spec.json5.org): JSON for people, with comments.

Where the keys of a text stand, and which stand twice in their object, is found out here: the library tells neither, and of two
keys it takes the last. A machine that is written twice would lose one of its ports unseen, and another machine's power be cut for it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyjson5

from pipeline.errors import Misconfigured

MAX_BYTES: Final = 4 * 1024 * 1024
_MAX_DEPTH: Final = 32
_PLACE: Final = re.compile(r" near (\d+)")
_MOST_TOLD: Final = 10
_CODE_POINT: Final = re.compile(r"\bU\+([0-9a-f]{4,6})\b")

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


def read_json5(path: Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """The value in the file. Raises `Misconfigured`, which names the file and the place, also for keys that stand twice."""
    return parse_unique(read_text(path, max_bytes=max_bytes), str(path))


def read_text(path: Path, *, max_bytes: int = MAX_BYTES) -> str:
    """The text in the file. Raises `Misconfigured`."""
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror}") from error
    if len(content) > max_bytes:
        raise Misconfigured(f"{path} is larger than {max_bytes} bytes: that is no configuration")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{path} is not UTF-8 text (byte {error.start})") from error


def file_mark(path: Path) -> tuple[int, int, int] | None:
    """Changes when the file does, or is replaced; None while there is none that can be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def parse_json5(text: str, name: str) -> Any:
    """The value in the text, which `name` stands for in errors. Raises `Misconfigured`. Of keys that stand twice the last counts."""
    try:
        return pyjson5.decode(text, maxdepth=_MAX_DEPTH)
    except pyjson5.Json5DecoderException as error:
        raise Misconfigured(f"{name}{_explained(text, str(error.args[0]))}") from error


def parse_unique(text: str, name: str) -> Any:
    """The same, but no key may stand twice in its object."""
    value = parse_json5(text, name)
    told = [
        f"{name}, line {twice.line}: {'.'.join(map(str, twice.path))} stands on line {twice.first_line}, too: remove one"
        for twice in find_keys(text).twice[:_MOST_TOLD]
    ]
    if told:
        raise Misconfigured("\n".join(told))
    return value


def _explained(text: str, said: str) -> str:
    """Where and what, in our words: the library counts characters and names its own states."""
    found = _PLACE.search(said)
    what = _CODE_POINT.sub(lambda code: repr(chr(int(code[1], 16))), _PLACE.sub("", said).replace("b'", "'"))
    if found is None:
        return f": no JSON5: {what}"
    before = text[: max(0, int(found[1]) - 1)]
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    return f", line {line}, column {column}: no JSON5: {what}"


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
