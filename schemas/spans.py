"""Spans of time as people write them in options and files: `90s`, `10m`, `2h`, `1d`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_SPAN: Final = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS: Final = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


def read_span(value: object) -> timedelta:
    """The span that a text tells. Raises ValueError, which says how one is written."""
    found = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('expected a span such as "90s", "10m", "2h" or "1d"')
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


def span_text(span: timedelta) -> str:
    """The same the other way, in the largest unit that fits."""
    seconds = round(span.total_seconds())
    unit, size = next((unit, size) for unit, size in _SECONDS.items() if seconds % size == 0)
    return f"{seconds // size}{unit}"
