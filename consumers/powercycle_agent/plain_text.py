"""Text from files and devices as people may see it: on one line, harmless to a terminal."""

from __future__ import annotations

from typing import Final

from schemas.power import MAX_TEXT

_MAX_NAME: Final = 60
"""Characters of a name that an error repeats."""


def plain(text: str) -> str:
    """The text on one line; what does not print is spelled out."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _spelled(character) for character in text)


def told(text: str) -> str:
    """A driver's words, perhaps a device's own, as messages, database and terminals take them."""
    return plain(text[:MAX_TEXT])[:MAX_TEXT]


def quoted(name: object) -> str:
    """A name from a file, in a sentence: in quotes, and not too long."""
    return _cut(repr(str(name)))


def short(name: object) -> str:
    """The same without quotes, as part of a path."""
    return _cut(plain(str(name)))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_NAME else f"{text[:_MAX_NAME]}…"


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
