"""Flags as Go's `flag` package takes them: one dash or two, `-name value` or `-name=value`, `-l=false`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import click

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_HELP: Final = frozenset({"-h", "-help", "--h"})


class GoCommand(click.Command):
    """A command whose flags may also be spelled so."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Spell them as click takes them, then go on as usual."""
        options = {
            name.lstrip("-"): option
            for option in self.params
            if isinstance(option, click.Option)
            for name in option.opts
        }
        return super().parse_args(ctx, list(_spelled_out(args, options)))


def _spelled_out(words: Sequence[str], options: Mapping[str, click.Option]) -> Iterator[str]:
    rest = iter(words)
    for word in rest:
        if word == "--":
            yield word
            yield from rest
            return
        name, equals, value = word.lstrip("-").partition("=")
        option = options.get(name)
        if word in _HELP:
            yield "--help"
        elif option is None or not word.startswith("-") or word.startswith("---"):
            yield word
        elif option.is_flag:
            if not equals or _is_true(name, value):
                yield option.opts[0]
        else:
            given = value if equals else next(rest, None)
            yield option.opts[0] if given is None else f"{option.opts[0]}={given}"


def _is_true(name: str, value: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise click.UsageError(f"-{name}={value}: expected true or false")
