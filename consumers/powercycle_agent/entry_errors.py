"""Says what is wrong with a controller's entry, in words for whoever wrote it. Never shows a value: it may be a password."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from consumers.powercycle_agent.entry_secrets import without_secrets

_PORTS_SHAPE: Final = 'should be an object of machines and ports, such as { "rack4-07": 7 }'
_PORT_SHAPE: Final = "should be a port: a number or a text"


@dataclass(frozen=True, slots=True)
class EntryError:
    """One thing that is wrong."""

    path: tuple[str | int, ...]
    """Keys that lead to it, from the entry."""
    text: str


def said_of(error: ValidationError, entry: Mapping[str, Any], settings: type[BaseModel]) -> list[EntryError]:
    """All that is wrong with the entry."""
    details = error.errors(include_url=False, include_input=False)
    located = [(_path_in(entry, detail), detail) for detail in details]
    texts: dict[tuple[str | int, ...], list[str]] = {}
    for path, detail in _most_telling(located):
        texts.setdefault(path, []).append(without_secrets(_text(path, detail, settings), entry))
    return [EntryError(path, " or ".join(dict.fromkeys(said))) for path, said in texts.items()]


def _path_in(entry: Any, detail: ErrorDetails) -> tuple[str | int, ...]:
    """The place in the entry: without the steps that are pydantic's own, such as which member of a union it tried."""
    path: list[str | int] = []
    here = entry
    last = len(detail["loc"]) - 1
    for index, step in enumerate(detail["loc"]):
        if isinstance(here, dict) and step in here:
            here = here[step]
        elif isinstance(here, list) and step in range(len(here)):
            here = here[int(step)]
        elif not (index == last and detail["type"] in {"missing", "extra_forbidden"}):
            continue
        path.append(step)
    return tuple(path)


def _most_telling(
    located: list[tuple[tuple[str | int, ...], ErrorDetails]],
) -> Iterable[tuple[tuple[str | int, ...], ErrorDetails]]:
    """Leave out that a value is not of a type that it was never meant to be, where something deeper in it is wrong."""
    for path, detail in located:
        deeper = any(len(other) > len(path) and other[: len(path)] == path for other, _ in located)
        if path and deeper and detail["type"].endswith(("_type", "_parsing")):
            continue
        yield path, detail


def _text(path: tuple[str | int, ...], detail: ErrorDetails, settings: type[BaseModel]) -> str:
    kind = detail["type"]
    if kind == "missing":
        return f"missing: add {path[-1]}: …" if path else "missing"
    if kind == "extra_forbidden":
        return _unknown_key(str(path[-1]), settings) if len(path) == 1 else "unknown key: remove it"
    if kind in {"value_error", "assertion_error"}:
        return detail["msg"].partition(", ")[2] or detail["msg"]
    if path[:1] == ("ports",) and kind.endswith("_type"):
        return _PORTS_SHAPE if len(path) == 1 else _PORT_SHAPE
    if kind in {"dict_type", "model_type"}:
        return "should be an object: { … }"
    text = detail["msg"].removeprefix("Input ")
    return text[:1].lower() + text[1:]


def _unknown_key(key: str, settings: type[BaseModel]) -> str:
    known = sorted(field.alias or name for name, field in settings.model_fields.items())
    close = difflib.get_close_matches(key, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"unknown key{hint}; there are: {', '.join(known)}"
