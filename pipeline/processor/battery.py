"""What `adb shell dumpsys battery` says."""

from __future__ import annotations

import re
from typing import Final

_LEVEL: Final = re.compile(r"level:[\t\n\f\r ]+([0-9]+)\b", re.ASCII)
_SCALE: Final = re.compile(r"scale:[\t\n\f\r ]+([0-9]+)\b", re.ASCII)
_TEMPERATURE: Final = re.compile(r"temperature:[\t\n\f\r ]+([0-9]+)\b", re.ASCII)

_INT64_MAX: Final = 2**63 - 1
_INT64_DIGITS: Final = 19


def battery_percent(dump: str) -> int | None:
    """Charge in percent of the scale; None if it cannot be told."""
    level, scale = _first_number(_LEVEL, dump), _first_number(_SCALE, dump)
    if level is None or not scale:
        return None
    percent = 100 * level // scale
    return percent if percent <= _INT64_MAX else None


def battery_temperature(dump: str) -> float | None:
    """Degrees Celsius, which the device writes in tenths; None if it is not there, or below zero."""
    tenths = _first_number(_TEMPERATURE, dump)
    return None if tenths is None else tenths / 10


def _first_number(pattern: re.Pattern[str], dump: str) -> int | None:
    """The number in the first match; None if there is no match, or the number has more than 64 bits."""
    found = pattern.search(dump)
    if found is None:
        return None
    digits = found[1].lstrip("0") or "0"
    if len(digits) > _INT64_DIGITS:
        return None
    number = int(digits)
    return number if number <= _INT64_MAX else None
