"""What each part of an event says about the machine: one function for every kind of device, and one for no device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from pipeline.processor.android import dimensions_from_getprop
from pipeline.processor.battery import battery_percent
from pipeline.processor.quoting import quoted, quoted_list
from pipeline.processor.recovery import device_missing
from pipeline.processor.temperature import hottest, temperatures
from schemas.description import Description
from schemas.event import BAD_BATTERY_LEVEL, DeviceKind, Event
from schemas.wire import Dimensions

MIN_BATTERY_PERCENT: Final = 30
MAX_TEMPERATURE_C: Final = 35.0

BATTERY_LOW: Final = "Battery low."
TOO_HOT: Final = "Too hot."

_NANOSECONDS: Final = 10**9
_INT32_MAX: Final = 2**31 - 1


class Reading(NamedTuple):
    """What one event says."""

    dimensions: Dimensions
    fields: dict[str, object]
    """Further fields of the Description, by name."""
    reason: str | None
    """Why the machine must recover; empty if it is well. None: nothing to say, it just stops recovering."""


def read(before: Description, event: Event, kind: DeviceKind | None) -> Reading:
    """What the part of the given kind says; `kind` is the event's."""
    return _missing(before, event) if kind is None else _READERS[kind](before, event)


def _android(_before: Description, event: Event) -> Reading:
    android = event.android
    percent = battery_percent(android.dumpsys_battery)
    by_sensor = temperatures(android.dumpsys_thermal_service, android.dumpsys_battery)
    reasons = []
    if percent is not None and percent < MIN_BATTERY_PERCENT:
        reasons.append(BATTERY_LOW)
    if by_sensor is not None and hottest(by_sensor) > MAX_TEMPERATURE_C:
        reasons.append(TOO_HOT)
    return Reading(
        {**dimensions_from_getprop(android.getprop), "id": [event.host.name]},
        {
            "battery": BAD_BATTERY_LEVEL if percent is None else percent,
            "temperature": by_sensor,
            "device_uptime_s": _whole_seconds(android.uptime_ns),
        },
        " ".join(reasons),
    )


def _chromeos(before: Description, event: Event) -> Reading:
    chromeos = event.chromeos
    return Reading(
        {
            **(before.supplied_dimensions or {}),
            "os": ["ChromeOS"],
            "chromeos_channel": [chromeos.channel],
            "chromeos_milestone": [chromeos.milestone],
            "release_version": [chromeos.release_version],
        },
        {"battery": 0, "temperature": None, "device_uptime_s": _whole_seconds(chromeos.uptime_ns)},
        "",
    )


def _ios(_before: Description, event: Event) -> Reading:
    ios = event.ios
    is_low = ios.battery != BAD_BATTERY_LEVEL and ios.battery < MIN_BATTERY_PERCENT
    return Reading(
        {
            "os": ["iOS", f"iOS-{ios.version}"] if ios.version else ["iOS"],
            "device_type": [ios.device_type],
        },
        {"battery": ios.battery, "temperature": None},
        BATTERY_LOW if is_low else "",
    )


def _pyocd(_before: Description, event: Event) -> Reading:
    return Reading(
        {"id": [event.host.name], "device_type": [event.pyocd.device_type]},
        {"battery": 0, "temperature": None},
        None,
    )


def _standalone(_before: Description, event: Event) -> Reading:
    standalone = event.standalone
    dimensions: Dimensions = {
        "id": [event.host.name],
        "cores": [str(standalone.cores)],
        "os": standalone.os_versions,
        "cpu": standalone.cpus,
        "gpu": standalone.gpus,
    }
    if standalone.gce:
        dimensions["gce"] = ["1"]
        dimensions["machine_type"] = [standalone.machine_type]
    if standalone.docker_installed:
        dimensions["docker_installed"] = ["true"]
    return Reading(dimensions, {"battery": 0, "temperature": None}, "")


def _missing(before: Description, event: Event) -> Reading:
    reason = before.recovering
    if before.ssh_user_ip:
        reason = device_missing(quoted(before.ssh_user_ip))
    elif device_type := before.dimension("device_type"):
        reason = device_missing(quoted_list(device_type))
    return Reading({"id": [event.host.name]}, {"battery": 0, "temperature": None}, reason)


def _whole_seconds(nanoseconds: int) -> int:
    return min(nanoseconds // _NANOSECONDS, _INT32_MAX)


_READERS: Final[dict[DeviceKind, Callable[[Description, Event], Reading]]] = {
    "android": _android,
    "chromeos": _chromeos,
    "ios": _ios,
    "pyocd": _pyocd,
    "standalone": _standalone,
}
