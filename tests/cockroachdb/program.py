"""Asks CockroachDB's own parser, the Go module of its makers, what it makes of our SQL: see `parser/main.go`."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import orjson

from infra.servers.go_program import go_program

_SOURCE: Final = Path(__file__).with_name("parser")
_ANSWER_S: Final = 60


@dataclass(frozen=True, slots=True)
class Constant:
    """A text that is cast to a type, as CockroachDB reads it."""

    type: str
    elements: tuple[str | None, ...]
    """Of an array; else the one value."""
    error: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """One statement."""

    tag: str
    sql: str
    """In CockroachDB's spelling, the constants hidden."""
    functions: frozenset[str]
    operators: frozenset[str]
    types: frozenset[str]
    columns: dict[str, str]
    """Of a table that it makes, as `information_schema` will show them."""
    constants: tuple[Constant, ...]

    @classmethod
    def read(cls, plain: dict[str, Any]) -> Self:
        """Take one from the program's answer."""
        return cls(
            plain["tag"],
            plain["sql"],
            frozenset(name.strip('"') for name in plain["functions"]),
            frozenset(plain["operators"]),
            frozenset(plain["types"]),
            plain["columns"],
            tuple(
                Constant(each["type"], tuple(each["elements"]), each["error"]) for each in plain["constants"]
            ),
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a text of SQL is to CockroachDB."""

    text: str
    error: str
    """Why it is none; else empty."""
    statements: tuple[Parsed, ...]


def parser() -> Path:
    """The program, built when it is not there; that takes minutes. Raises `ServerUnavailable` without Go."""
    return go_program("cockroachdbparser", _SOURCE)


def parsed(program: Path, texts: Sequence[str]) -> list[Answer]:
    """The answers to the texts, in their order."""
    done = subprocess.run(
        [program],
        input=b"\n".join([orjson.dumps(text) for text in texts]),
        capture_output=True,
        check=False,
        timeout=_ANSWER_S,
    )
    assert done.returncode == 0, done.stderr.decode()
    answers = [orjson.loads(line) for line in done.stdout.splitlines()]
    return [
        Answer(text, each["error"], tuple(map(Parsed.read, each["statements"])))
        for text, each in zip(texts, answers, strict=True)
    ]
