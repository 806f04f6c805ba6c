"""Descriptions, events and device answers that the tests start from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pipeline.processor.process import process
from schemas.description import Annotation, Description
from schemas.event import Event

MACHINE = "skia-rpi2-0001"
STARTED = datetime(2021, 9, 1, 10, 0, tzinfo=UTC)
"""When the Descriptions were last written."""
BOOTED = datetime(2021, 9, 1, 10, 1, tzinfo=UTC)
"""When the monitor began."""
NOW = datetime(2021, 9, 1, 10, 1, 5, 123456, tzinfo=UTC)
VERSION = "2021-07-22-someone-78bcc725fef1e29b518291469b8ad8f0cc3b21e4"

NS = 10**9

PIXEL_3A = """\
[ro.build.id]: [QQ2A.200305.002]
[ro.product.brand]: [google]
[ro.build.type]: [user]
[ro.build.product]: [sargo]
[ro.product.system.brand]: [aosp]
"""

PIXEL_3A_DIMENSIONS: dict[str, list[str] | None] = {
    "android_devices": ["1"],
    "device_os": ["Q", "QQ2A.200305.002"],
    "device_os_flavor": ["google", "android"],
    "device_os_type": ["user"],
    "device_type": ["sargo"],
    "os": ["Android"],
}

COLD_SENSORS = ("28.000002", "33.800003", "32.9")
HOT_SENSORS = ("28.000002", "44.1", "32.9")


def battery_dump(level: object, *, temperature: object = None) -> str:
    lines = [
        "Current Battery Service state:",
        "  AC powered: true",
        "  Max charging current: 1500000",
        "  present: true",
        f"  level: {level}",
        "  scale: 100",
        "  voltage: 4248",
    ]
    if temperature is not None:
        lines.append(f"  temperature: {temperature}")
    return "\n".join(lines)


def sensor(value: object, name: str = "cpu0", *, kind: object = 0) -> str:
    return f"\tTemperature{{mValue={value}, mType={kind}, mName={name}, mStatus=0}}"


def thermal_dump(*values: str) -> str:
    """A dump whose cached temperatures are hot, and whose current ones are the given, for `sensor0`, `sensor1` …"""
    return "\n".join(
        (
            "IsStatusOverride: false",
            "ThermalEventListeners:",
            "\tcallbacks: 3",
            "Thermal Status: 0",
            "Cached temperatures:",
            sensor("46.100002", "cached"),
            "HAL Ready: true",
            "HAL connection:",
            "\tThermalHAL 2.0 connected: yes",
            "Current temperatures from HAL:",
            *(sensor(value, f"sensor{number}") for number, value in enumerate(values)),
            "Current cooling devices from HAL:",
            "\tCoolingDevice{mValue=0, mType=1, mName=battery}",
            sensor("99.9", "after"),
        )
    )


def event(*, sequence: int | None = None, host: dict[str, Any] | None = None, **parts: Any) -> Event:
    """A `raw_state` event with the given parts, read as it would be from the wire."""
    document: dict[str, Any] = {
        "type": "raw_state",
        "host": {"name": MACHINE, "version": VERSION, "start_time": BOOTED, **(host or {})},
        **parts,
    }
    if sequence is not None:
        document["sequence"] = sequence
    return Event.model_validate(document)


def android_event(
    getprop: str = "", *, battery: str = "", thermal: str = "", uptime_ns: int = 10, **others: Any
) -> Event:
    part = {
        "getprop": getprop,
        "dumpsys_battery": battery,
        "dumpsys_thermal_service": thermal,
        "uptime": uptime_ns,
    }
    return event(android=part, **others)


CHROMEOS_EVENT = event(
    chromeos={
        "channel": "stable-channel",
        "milestone": "89",
        "release_version": "13729.56.0",
        "uptime": 123 * NS,
    }
)
IOS_EVENT = event(ios={"version": "13.3.1", "device_type": "iPhone10,1", "battery": 33})
PYOCD_EVENT = event(pyocd={"device_type": "Pico"})
STANDALONE_EVENT = event(
    standalone={
        "cores": 8,
        "cpus": ["x86", "x86_64"],
        "gpus": ["none"],
        "os_versions": ["Linux", "Debian-11.0"],
    }
)
MISSING_EVENT = event()


def description(**changed: Any) -> Description:
    """A machine that has been heard of, with the given fields."""
    return Description.new(MACHINE, now=STARTED).model_copy(update=changed)


def recovering(text: str = "Too hot.", **changed: Any) -> Description:
    """A machine that recovers since `STARTED`."""
    return description(
        recovering=text,
        recovery_start=STARTED,
        annotation=Annotation(message=text, user="labkeeper", timestamp=STARTED),
        **changed,
    )


def after(before: Description, *events: Event) -> Description:
    """The machine after the events, all at `NOW`."""
    for each in events:
        before = process(before, each, now=NOW).after
    return before
