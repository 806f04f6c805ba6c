"""Reads configuration files in JSON5 (https://spec.json5.org): JSON for people, with comments."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pyjson5

from pipeline.errors import Misconfigured

MAX_BYTES: Final = 4 * 1024 * 1024
_MAX_DEPTH: Final = 32
_PLACE: Final = re.compile(r" near (\d+)")
_CODE_POINT: Final = re.compile(r"\bU\+([0-9a-f]{4,6})\b")


def read_json5(path: Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """The value in the file. Raises `Misconfigured`, which names the file and the place."""
    return parse_json5(read_text(path, max_bytes=max_bytes), str(path))


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
    """The value in the text, which `name` stands for in errors. Raises `Misconfigured`."""
    try:
        return pyjson5.decode(text, maxdepth=_MAX_DEPTH)
    except pyjson5.Json5DecoderException as error:
        raise Misconfigured(f"{name}{_explained(text, str(error.args[0]))}") from error


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
