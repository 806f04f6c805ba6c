"""What `adb shell dumpsys thermalservice` says."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from pipeline.processor.battery import battery_temperature

NO_TEMPERATURE: Final = -99.0
"""The maximum of nothing."""

_BATTERY: Final = "dumpsys_battery"
"""The sensor that the battery service reads."""
_NOT_A_TEMPERATURE: Final = "battery_cycle"
"""Some devices list the number of charging cycles among the temperatures."""

_HEADING: Final = "Current temperatures from HAL"
"""Only what follows is current; the list under `Cached temperatures` is not."""
_SECTION_END: Final = re.compile(r"\n(?!\t)")
_SENSOR: Final = re.compile(
    r"\tTemperature\{mValue=([0-9.]+),[\t\f\r ]+mType=[0-9]+,[\t\f\r ]+mName=([^,\n]+),[\t\f\r ]+mStatus=[0-9].*"
)
"""At most one a line. A negative value means that nothing was measured, and does not match."""


def temperatures(thermal_dump: str, battery_dump: str) -> dict[str, float] | None:
    """Degrees Celsius by sensor; None if there are none."""
    found: dict[str, float] = {}
    for number, name in _SENSOR.findall(_current(thermal_dump)):
        degrees = _degrees(number)
        if degrees is not None:
            found[name] = degrees
    battery = battery_temperature(battery_dump)
    if battery is not None:
        found[_BATTERY] = battery
    return found or None


def hottest(by_sensor: Mapping[str, float]) -> float:
    """The highest temperature, or `NO_TEMPERATURE`."""
    return max(
        (degrees for sensor, degrees in by_sensor.items() if sensor != _NOT_A_TEMPERATURE),
        default=NO_TEMPERATURE,
    )


def _current(thermal_dump: str) -> str:
    """The lines under the first heading, as long as they begin with a tab."""
    heading = ("\n" + thermal_dump).find("\n" + _HEADING)
    start = thermal_dump.find("\n", heading)
    if heading < 0 or start < 0:
        return ""
    end = _SECTION_END.search(thermal_dump, start)
    return thermal_dump[start:] if end is None else thermal_dump[start : end.start()]


def _degrees(number: str) -> float | None:
    """The value of a sensor; some write thousandths of a degree."""
    try:
        value = float(number)
    except ValueError:  # several dots, or nothing else
        return None
    if math.isinf(value):
        return None
    return value / 1000 if value > 1000 else value
