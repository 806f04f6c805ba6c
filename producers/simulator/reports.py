"""What the monitor of a simulated machine reports."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, assert_never

from producers.simulator.android import dumpsys_battery, dumpsys_thermal_service, getprop
from producers.simulator.catalogue import AppleDevice, Board, Chromebook, Computer, Device, Machine, Phone
from producers.simulator.life import Life
from schemas.event import IOS, RAW_STATE, Android, ChromeOS, Event, Host, PyOCD, Standalone

MONITOR_VERSION: Final = "simulated-1"


def report(machine: Machine, life: Life) -> Event:
    """The event that tells of this moment; without a device part when the device is not there."""
    return Event(
        type=RAW_STATE,
        host=Host(name=machine.id, version=MONITOR_VERSION, start_time=life.monitor_start),
        running_swarming_task=life.busy,
        forced_quarantine=life.quarantine_due,
        launched_swarming=True,
        sequence=life.sequence,
        **(_device_part(machine.device, machine.serial, life) if life.device_present else {}),
    )


def _device_part(device: Device, serial: str, life: Life) -> dict[str, Any]:
    match device:
        case Phone():
            return {"android": _android(device, serial, life)}
        case AppleDevice(device_type=device_type, version=version):
            return {"ios": IOS(device_type=device_type, version=version, battery=round(life.battery))}
        case Chromebook():
            return {"chromeos": _chromeos(device, life)}
        case Board(device_type=device_type):
            return {"pyocd": PyOCD(device_type=device_type)}
        case Computer():
            return {"standalone": _standalone(device)}
    assert_never(device)


def _android(phone: Phone, serial: str, life: Life) -> Android:
    return Android(
        getprop=getprop(phone, serial),
        dumpsys_battery=dumpsys_battery(round(life.battery), celsius=life.celsius, charging=not life.busy),
        dumpsys_thermal_service=dumpsys_thermal_service(life.celsius, uptime=life.device_uptime),
        uptime_ns=_whole_seconds_ns(life.device_uptime),
    )


def _chromeos(chromebook: Chromebook, life: Life) -> ChromeOS:
    return ChromeOS(
        channel=chromebook.channel,
        milestone=chromebook.milestone,
        release_version=chromebook.release_version,
        uptime_ns=_whole_seconds_ns(life.device_uptime),
    )


def _standalone(computer: Computer) -> Standalone:
    return Standalone(
        cores=computer.cores,
        cpus=list(computer.cpus),
        gpus=list(computer.gpus),
        os_versions=list(computer.os_versions),
        gce=bool(computer.machine_type),
        machine_type=computer.machine_type,
        docker_installed=computer.docker_installed,
    )


def _whole_seconds_ns(uptime: timedelta) -> int:
    """At least a second: a device with no uptime counts as absent."""
    return max(1, int(uptime.total_seconds())) * 1_000_000_000
