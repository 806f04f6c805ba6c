"""What a machine reports: `Event`, the value of `machine.events` and the body of `POST /json/v1/machine/event/`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from schemas.ids import check_machine_id
from schemas.wire import ZERO_TIME, Bool, Dimensions, Int64, StringList, Time, WireModel

RAW_STATE: Final = "raw_state"
"""What a monitor reports. Events of a type that nobody knows are taken and change nothing."""

SWARMING_BOT: Final = "swarming_bot"
"""What a Swarming server says of one of its bots, for machines without a monitor of ours."""

BAD_BATTERY_LEVEL: Final = -99
"""Stands for "the battery could not be read"."""

DeviceKind = Literal["android", "chromeos", "ios", "pyocd", "standalone"]


class Android(WireModel):
    """Raw output of commands on an Android device; the processor reads it."""

    getprop: str = ""
    """Output of `adb shell getprop`."""
    dumpsys_battery: str = ""
    """Output of `adb shell dumpsys battery`."""
    dumpsys_thermal_service: str = ""
    """Output of `adb shell dumpsys thermalservice`."""
    uptime_ns: Int64 = Field(default=0, alias="uptime")
    """Since the device booted, nanoseconds. The part counts as present when it is above 0."""


class ChromeOS(WireModel):
    """A ChromeOS device, from its `/etc/lsb-release`."""

    channel: str = ""
    milestone: str = ""
    release_version: str = ""
    uptime_ns: Int64 = Field(default=0, alias="uptime")
    """Since the device booted, nanoseconds. The part counts as present when it is above 0."""


class IOS(WireModel):
    """An iOS device, from `ideviceinfo`."""

    version: str = ""
    device_type: str = ""
    """For example `iPhone10,1`. The part counts as present when it is not empty."""
    battery: Int64 = 0
    """Percent, or -99 when it could not be read."""


class PyOCD(WireModel):
    """A microcontroller board behind a debug probe."""

    device_type: str = ""
    """The part counts as present when it is not empty."""


class Standalone(WireModel):
    """The host itself is the machine under test."""

    cores: Int64 = 0
    """CPUs that the monitor's process may use. The part counts as present when it is above 0."""
    cpus: StringList | None = None
    gpus: StringList | None = None
    os_versions: StringList | None = None
    gce: Bool = False
    """On Google Compute Engine."""
    machine_type: str = ""
    """GCE machine type, such as `n1-standard-16`."""
    docker_installed: Bool = False


class SwarmingBot(WireModel):
    """A bot as its Swarming server has it."""

    server: str = ""
    """URL of the server."""
    is_dead: Bool = False
    """It has not called for as long as the server waits."""
    last_seen: Time = ZERO_TIME
    """When it called last; the zero time: never."""
    quarantine: str = ""
    """Why it takes no tasks; empty: it is not quarantined."""
    maintenance: str = ""
    """Why its owner took it out of service, by the bot's own word."""
    device_missing: Bool = False
    """Its state says that its device is gone, or stuck while starting."""
    task_id: str = ""
    """What it runs."""
    dimensions: Dimensions | None = None


def _machine_id_or_empty(name: str) -> str:
    return check_machine_id(name) if name else name


class Host(WireModel):
    """The host that reports, and the monitor on it."""

    name: Annotated[str, AfterValidator(_machine_id_or_empty)] = ""
    """The machine id. Empty is Go's zero value, so it can be read; whoever takes events in must refuse it."""
    version: str = ""
    """Version of the monitor."""
    start_time: Time = ZERO_TIME
    """When this run of the monitor began. It names the run that `sequence` counts in."""


class Event(WireModel):
    """One report of one machine. At most one of the device parts is present; none means that no device was found."""

    type: str = ""
    android: Android = Android()
    chromeos: ChromeOS = ChromeOS()
    ios: IOS = IOS()
    pyocd: PyOCD = PyOCD()
    standalone: Standalone = Standalone()
    host: Host = Host()
    running_swarming_task: Bool = False
    forced_quarantine: Bool = False
    """A task asked for the machine to be taken out of service."""
    launched_swarming: Bool = False
    sequence: Int64 | None = Field(default=None, ge=0, exclude_if=lambda value: value is None)
    """Counts up within one run of the monitor. Old monitors send none: their events apply in the order in which the broker
    took them."""

    swarming: SwarmingBot | None = Field(default=None, exclude_if=lambda value: value is None)
    """The bot that an event of type `swarming_bot` is about; its id is `host.name`."""

    @property
    def device_kind(self) -> DeviceKind | None:
        """Which device part is present, the first that is; None when no device was found."""
        if self.android.uptime_ns > 0:
            return "android"
        if self.chromeos.uptime_ns > 0:
            return "chromeos"
        if self.ios.device_type:
            return "ios"
        if self.pyocd.device_type:
            return "pyocd"
        return "standalone" if self.standalone.cores > 0 else None
