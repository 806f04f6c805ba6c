"""Spans of time as options."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from schemas.spans import read_span, span_text


class Span(click.ParamType):
    """`90s`, `30m`, `24h` or `2d`; the command gets a timedelta."""

    name = "span"

    def __init__(
        self, shortest: timedelta = timedelta(seconds=1), longest: timedelta = timedelta(days=3650)
    ) -> None:
        self._shortest = shortest
        self._longest = longest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it, or say what is wrong."""
        if isinstance(value, timedelta):
            return value
        try:
            span = read_span(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        if span < self._shortest or span > self._longest:
            shortest, longest = span_text(self._shortest), span_text(self._longest)
            self.fail(f"{value!r}: must be from {shortest} to {longest}", param, ctx)
        return span
