"""Events as machines send them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

Report = dict[str, Any]

_UPTIME = timedelta(hours=5, minutes=12)

_THERMAL = """\
Current temperatures from HAL:
\tTemperature{{mValue={skin}, mType=3, mName=skin, mStatus=0}}
\tTemperature{{mValue={cpu}, mType=0, mName=cpu0, mStatus=0}}
Cached temperatures:
"""

_GETPROP = """\
[ro.build.id]: [TQ3A.230901.001]
[ro.build.type]: [userdebug]
[ro.build.version.incremental]: [10750268]
[ro.product.brand]: [google]
[ro.product.device]: [{device}]
"""


def report(machine_id: str, *, busy: bool = False, version: str = "2026-11-20-9c1e", **parts: Any) -> Report:
    """What every machine says; without a device part: that it has found no device."""
    return {
        "type": "raw_state",
        "host": {"name": machine_id, "version": version, "start_time": "2026-11-20T08:00:00Z"},
        "running_swarming_task": busy,
        **parts,
    }


def android(
    machine_id: str,
    device: str = "redfin",
    *,
    battery: int = 87,
    degrees: float = 29.4,
    uptime: timedelta = _UPTIME,
    busy: bool = False,
) -> Report:
    """A phone that is well, unless told otherwise."""
    part = {
        "getprop": _GETPROP.format(device=device),
        "dumpsys_battery": f"  level: {battery}\n  scale: 100\n  temperature: {int(degrees * 10)}\n",
        "dumpsys_thermal_service": _THERMAL.format(skin=degrees + 1.2, cpu=degrees + 3.1),
        "uptime": int(uptime.total_seconds() * 1e9),
    }
    return report(machine_id, busy=busy, android=part)


def ios(machine_id: str, device: str = "iPhone13,2", *, battery: int = 80) -> Report:
    """An iPhone."""
    return report(machine_id, ios={"version": "17.5.1", "device_type": device, "battery": battery})


def standalone(machine_id: str, *, busy: bool = False) -> Report:
    """A host that is itself the machine under test."""
    part = {
        "cores": 16,
        "cpus": ["x86", "x86-64", "x86-64-i7-9750H"],
        "gpus": ["10de", "10de:2489"],
        "os_versions": ["Linux", "Debian", "Debian-12"],
    }
    return report(machine_id, busy=busy, standalone=part)


def forced_quarantine(event: Report) -> Report:
    """The same, after a task that asked for the machine to be taken out of service."""
    return {**event, "forced_quarantine": True}
