"""What we believe about a machine: `Description`, one row of the store, `data:` of every SSE message."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field

from schemas.wire import (
    ZERO_TIME,
    Bool,
    Dimensions,
    Int32,
    Int64,
    StringList,
    Temperatures,
    Time,
    WireModel,
)


class AttachedDevice(StrEnum):
    """What the monitor of a machine shall interrogate."""

    NONE = "nodevice"
    ADB = "adb"
    IOS = "ios"
    PYOCD = "pyocd"
    SSH = "ssh"


class PowerCycleState(StrEnum):
    """Whether some power controller can cycle the machine."""

    NOT_AVAILABLE = "not_available"
    AVAILABLE = "available"
    IN_ERROR = "in_error"


class Annotation(WireModel):
    """Who said what about a machine, and when."""

    message: str = Field(default="", alias="Message")
    user: str = Field(default="", alias="User")
    timestamp: Time = Field(default=ZERO_TIME, alias="Timestamp")


class CacheRequest(WireModel):
    """A named cache that a task wants, and where."""

    name: str = Field(default="", alias="Name")
    path: str = Field(default="", alias="Path")


class CipdPackage(WireModel):
    """A CIPD package that a task wants installed."""

    name: str = ""
    path: str = ""
    version: str = ""


class TaskRequest(WireModel):
    """Work that a scheduler wants run on a machine."""

    caches: list[CacheRequest] | None = Field(default=None, alias="Caches")
    cas_input: str = Field(default="", alias="CasInput")
    cipd_packages: list[CipdPackage] | None = Field(default=None, alias="CipdPackages")
    command: StringList | None = Field(default=None, alias="Command")
    dimensions: StringList | None = Field(default=None, alias="Dimensions")
    env: dict[str, str] | None = Field(default=None, alias="Env")
    env_prefixes: dict[str, StringList | None] | None = Field(default=None, alias="EnvPrefixes")
    execution_timeout_ns: Int64 = Field(default=0, alias="ExecutionTimeout")
    expiration_ns: Int64 = Field(default=0, alias="Expiration")
    idempotent: Bool = Field(default=False, alias="Idempotent")
    io_timeout_ns: Int64 = Field(default=0, alias="IoTimeout")
    name: str = Field(default="", alias="Name")
    outputs: StringList | None = Field(default=None, alias="Outputs")
    service_account: str = Field(default="", alias="ServiceAccount")
    tags: StringList | None = Field(default=None, alias="Tags")
    task_scheduler_task_id: str = Field(default="", alias="TaskSchedulerTaskID")


class Description(WireModel):
    """One machine. Immutable: whoever changes it makes a copy, and never changes a map or list in place.

    The keys and their order are the machine server's; the fields after `TaskStarted` are ours. Class defaults are Go's
    zero values (what a missing key means); `Description.new` is what an unknown machine starts from.
    """

    maintenance_mode: str = Field(default="", alias="MaintenanceMode")
    """Non-empty: a person put it in maintenance; `<email> <RFC 3339 time>`, then a reason if one was given."""
    is_quarantined: Bool = Field(default=False, alias="IsQuarantined")
    """Forced quarantine: set by an event, cleared only by a person."""
    recovering: str = Field(default="", alias="Recovering")
    """Non-empty: why the machine is recovering."""
    attached_device: str = Field(default="", alias="AttachedDevice")
    """One of `AttachedDevice`; old rows may hold anything."""
    annotation: Annotation = Field(default=Annotation(), alias="Annotation")
    """Last automatic or button-driven change."""
    note: Annotation = Field(default=Annotation(), alias="Note")
    """Free text by a person."""
    version: str = Field(default="", alias="Version")
    """Version of the monitor."""
    power_cycle: Bool = Field(default=False, alias="PowerCycle")
    """A power cycle is wanted."""
    power_cycle_state: str = Field(default="", alias="PowerCycleState")
    """One of `PowerCycleState`; rows of the old server may hold the empty string."""
    last_updated: Time = Field(default=ZERO_TIME, alias="LastUpdated")
    battery: Int64 = Field(default=0, alias="Battery")
    """Percent; -99 when it could not be read."""
    temperature: Temperatures | None = Field(default=None, alias="Temperature")
    """Degrees Celsius by sensor."""
    running_swarming_task: Bool = Field(default=False, alias="RunningSwarmingTask")
    launched_swarming: Bool = Field(default=False, alias="LaunchedSwarming")
    recovery_start: Time = Field(default=ZERO_TIME, alias="RecoveryStart")
    device_uptime_s: Int32 = Field(default=0, alias="DeviceUptime")
    """Whole seconds."""
    ssh_user_ip: str = Field(default="", alias="SSHUserIP")
    """For example `root@skia-sparky360-03`."""
    supplied_dimensions: Dimensions | None = Field(default=None, alias="SuppliedDimensions")
    """Typed in by people, ChromeOS only."""
    dimensions: Dimensions | None = Field(default=None, alias="Dimensions")
    """Swarming dimensions."""
    task_request: TaskRequest | None = Field(
        default=None, alias="TaskRequest", exclude_if=lambda value: value is None
    )
    """Work to run; deleting it is how a task is killed."""
    task_started: Time = Field(default=ZERO_TIME, alias="TaskStarted")

    row_version: Int64 = Field(default=0, alias="RowVersion")
    """Counts the changes of this row, from 1. The store sets it; of two Descriptions the higher one is newer."""
    device_kind: str = Field(default="", alias="DeviceKind")
    """Which device part the last event that had one carried: `android`, `chromeos`, `ios`, `pyocd`, `standalone`."""
    down_since: Time = Field(default=ZERO_TIME, alias="DownSince")
    """Since when the machine has been silent; the zero time while it is up."""
    monitor_start: Time = Field(default=ZERO_TIME, alias="MonitorStart")
    """Start time of the monitor run whose sequence was applied last."""
    monitor_sequence: Annotated[Int64, Field(ge=-1)] = Field(default=-1, alias="MonitorSequence")
    """Last sequence applied of that run; -1 when none was ever sent."""
    power_action: str = Field(default="", alias="PowerAction")
    """What the latest power command asks for, one of `schemas.power.PowerAction`; empty when there was none."""
    power_status: str = Field(default="", alias="PowerStatus")
    """How far that command is, one of `schemas.power.PowerStatus`; it stays when the command has ended."""
    healing: str = Field(default="", alias="Healing")
    """What self-healing decided, `<state>: <reason>`, with a state of `schemas.healing.HealingState`; empty: nothing to decide."""

    @classmethod
    def new(
        cls,
        machine_id: str,
        *,
        now: datetime,
        power_cycle_state: PowerCycleState = PowerCycleState.NOT_AVAILABLE,
    ) -> Self:
        """What a machine that nobody has heard of starts from."""
        return cls(
            attached_device=AttachedDevice.NONE.value,
            power_cycle_state=power_cycle_state.value,
            last_updated=now,
            dimensions={"id": [machine_id]},
        )

    @property
    def in_maintenance(self) -> bool:
        """Whether a person put the machine in maintenance."""
        return self.maintenance_mode != ""

    @property
    def is_recovering(self) -> bool:
        """Whether the machine is recovering."""
        return self.recovering != ""

    @property
    def is_down(self) -> bool:
        """Whether the watchdog has found the machine silent."""
        return self.down_since != ZERO_TIME

    @property
    def is_busy(self) -> bool:
        """Whether a Swarming task ran when the machine last reported, or one is requested."""
        return self.running_swarming_task or self.task_request is not None

    @property
    def is_available(self) -> bool:
        """Whether the machine can be lent: not in maintenance, quarantined, recovering or down."""
        return not (self.in_maintenance or self.is_quarantined or self.is_recovering or self.is_down)

    def dimension(self, name: str) -> list[str]:
        """Values of a dimension; empty when it is missing, null or empty."""
        return (self.dimensions or {}).get(name) or []
