"""Words for people. Machines and programs send us any text; none of it may steer a terminal."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters, and the invisible ones that reorder or hide what stands beside them."""
_CONTROL_IN_JSON: Final = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` with everything that could move the cursor, change colours or hide letters spelled out."""
    return _CONTROL.sub(_spelled, text)


def printable_json(text: str) -> str:
    """JSON text that means the same and holds nothing that a terminal obeys."""
    return _CONTROL_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _spelled(match: re.Match[str]) -> str:
    character = match[0]
    if character in "\t\n\r":
        return {"\t": " ", "\n": "\\n", "\r": "\\r"}[character]
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def short_duration(span: timedelta) -> str:
    """How long, in its two largest units at most: `42 s`, `5 min`, `3 h 20 min`, `12 d 4 h`."""
    seconds = max(0, int(span.total_seconds()))
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes = rest // 60
    if days:
        return f"{days} d {hours} h" if hours and days < 30 else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min" if minutes else f"{seconds} s"


def rough_duration(span: timedelta) -> str:
    """How long, in its largest unit: `42 s`, `5 min`, `3 h`, `12 d`."""
    return " ".join(short_duration(span).split(" ")[:2])


def ago(moment: datetime, now: datetime) -> str:
    """How long ago; a clock that runs ahead of ours counts as now."""
    return f"{short_duration(now - moment)} ago"


def count_of(number: int, noun: str) -> str:
    """`1 machine`, `2 machines`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
