"""Bodies of the façade's HTTP API: what it takes and what it answers. An `Event` and a `Description` are bodies as well.

The old machine server's bodies are read as Go would read them (`WireModel`); our own refuse unknown keys (`Body`).
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.changes import HistoryEntry
from schemas.description import AttachedDevice, Description, PowerCycleState
from schemas.fleet_stats import WHOLE_FLEET, FleetStats
from schemas.ids import MachineId
from schemas.power import MAX_DELAY_S, CommandId, PowerAction, PowerOutlet, PowerRecord
from schemas.silence import Silence
from schemas.wire import Body, Bool, Dimensions, Float, Time, WireModel

PROBLEM_TYPE: Final = "application/problem+json"
"""Content type of `Problem`, RFC 9457."""
IDEMPOTENCY_KEY_PATTERN: Final = r"^[\x21-\x7e]{1,200}$"
"""The header `Idempotency-Key`: visible ASCII characters."""
POWER_EXPIRY_S: Final = 600.0
"""How long a power command waits for an agent to begin unless told otherwise."""
SHORTEST_POWER_EXPIRY_S: Final = 1.0
LONGEST_POWER_EXPIRY_S: Final = 86_400.0
MOST_RESULTS: Final = 10_000
"""Results of power commands in one request."""
MOST_POWERED_BOTS: Final = 1_000
"""Machines in one report of an old power daemon."""
DEVICE_SUFFIX: Final = "-device"
"""Behind a machine's id: the device that hangs on it, as the older power system called that."""
JUMPHOST_PREFIX: Final = "jumphost-"
"""Before a rack's name: the host that drives its power, likewise."""
HOST_MISSING: Final = "Host Missing"
DEVICE_MISSING: Final = "Device Missing"
_DAY_S: Final = 86_400.0

_unstorable = re.compile("[\x00\ud800-\udfff]")


def _check_storable(text: str) -> str:
    if (found := _unstorable.search(text)) is not None:
        what = "NUL characters" if found[0] == "\x00" else "lone surrogates"
        raise ValueError(f"text must not contain {what}")
    return text


_Text = Annotated[str, AfterValidator(_check_storable)]
_ID: Final = "id"
_ID_RULE: Final = "the dimension id is the machine's name, which nobody can supply"


def _check_not_id(name: str) -> str:
    if name == _ID:
        raise ValueError(_ID_RULE)
    return name


def _check_without_id(dimensions: Dimensions | None) -> Dimensions | None:
    if dimensions is not None and _ID in dimensions:
        raise ValueError(_ID_RULE)
    return dimensions


DimensionName = Annotated[_Text, Field(min_length=1, max_length=128)]
SuppliedName = Annotated[DimensionName, AfterValidator(_check_not_id)]
"""What a person says of a device must not make it look like another machine."""
DimensionValue = Annotated[_Text, Field(max_length=1024)]


def _check_dimension_filter(text: str) -> str:
    if not text.partition(":")[0] or ":" not in text:
        raise ValueError("expected key:value, such as device_type:redfin")
    return _check_storable(text)


DimensionFilter = Annotated[str, Field(max_length=1200), AfterValidator(_check_dimension_filter)]


# --- /api/v1: requests -------------------------------------------------------------------------------------------------
class _Request(Body):
    """Something of ours that is sent to us."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class MaintenanceBody(_Request):
    """Why a machine is taken out of service."""

    reason: Annotated[_Text, Field(max_length=500)] = ""


class AttachedDeviceBody(_Request):
    """What the monitor of the machine shall interrogate."""

    attached_device: AttachedDevice


class NoteBody(_Request):
    """Free text about a machine."""

    message: Annotated[_Text, Field(max_length=10_000)]


class SuppliedDimensionsBody(_Request):
    """Where a ChromeOS device is, and what it cannot tell of itself."""

    ssh_user_ip: Annotated[_Text, Field(max_length=255)]
    """`host` or `user@host`."""
    dimensions: Annotated[
        dict[SuppliedName, Annotated[list[DimensionValue], Field(max_length=100)]],
        Field(min_length=1, max_length=100),
    ]


class ListParameters(_Request):
    """The query string of a listing."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[_Text, Field(max_length=2000)] | None = None
    """`next_cursor` of the page before."""
    sort: Literal[
        "id",
        "attached_device",
        "last_updated",
        "battery",
        "device_uptime",
        "maintenance_mode",
        "recovering",
        "version",
        "down_since",
    ] = "id"
    order: Literal["asc", "desc"] = "asc"
    q: Annotated[_Text, Field(max_length=500)] = ""
    """Words; each must occur, in any case, in the id, dimensions, notes, annotation or state texts."""
    health: Annotated[
        list[Literal["down", "quarantined", "maintenance", "recovering", "busy", "available"]],
        Field(max_length=6),
    ] = Field(default_factory=list)
    """States that must all hold."""
    attached_device: AttachedDevice | None = None
    dimension: Annotated[list[DimensionFilter], Field(max_length=20)] = Field(default_factory=list)
    """`key:value`; the value must be among the dimension's values."""


class HistoryParameters(_Request):
    """The query string of a machine's history."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    before: Annotated[str, Field(pattern=r"^[0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{26}$")] | None = None
    """`next_before` of the page before."""


_Pool = Annotated[str, Field(max_length=128, pattern=r"^(\*|[A-Za-z][A-Za-z0-9._-]*)$")]


class StatsParameters(_Request):
    """The query string of the fleet's statistics."""

    pool: _Pool | None = None
    """Only this pool; `*`: the whole fleet."""


class StatsHistoryParameters(_Request):
    """The query string of the fleet's statistics over time."""

    pool: _Pool = WHOLE_FLEET
    """`*`: the whole fleet."""
    since: Time | None = None
    """Windows that begin then or later, RFC 3339; by default an hour before the latest one's end."""
    until: Time | None = None
    """Windows that end then or before; by default all."""
    step: Annotated[int, Field(ge=1, le=86_400)] | None = None
    """Seconds that one entry stands for; by default, so many that there are at most 300 entries."""


class PowerBody(_Request):
    """What shall be done with a machine's power."""

    action: PowerAction
    delay_s: Annotated[Float, Field(gt=0, le=MAX_DELAY_S)] | None = None
    """Seconds between off and on; by default as the controller's configuration says."""
    why: Annotated[_Text, Field(max_length=2000)] = ""
    force: Bool = False
    """Also while a task runs, while somebody else maintains the machine, or when its controller did not answer last."""
    expires_in_s: Annotated[Float, Field(ge=SHORTEST_POWER_EXPIRY_S, le=LONGEST_POWER_EXPIRY_S)] = (
        POWER_EXPIRY_S
    )
    """An agent that has not begun within so many seconds must not begin."""


class PowerParameters(_Request):
    """The query string of a listing of power commands."""

    machine: MachineId | None = None
    """Only this machine's."""
    state: Literal["pending", "ended"] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    before: CommandId | None = None
    """`next_before` of the page before."""


class LeaseBody(_Request):
    """Which process wants to be the agent of a name."""

    owner: Annotated[_Text, Field(min_length=1, max_length=200)]
    """A name of the process itself, such as host, number and a random part."""
    seconds: Annotated[Float, Field(gt=0, le=600)] = 30.0
    """For how long, unless it is renewed. Not used to give it up."""


_Pattern = Annotated[_Text, Field(min_length=1, max_length=200)]


class SilenceBody(_Request):
    """Which machines nobody shall be told about, why, and until when: exactly one of `ends_in_s` and `ends_at`."""

    machine: _Pattern = "*"
    """Pattern of machine ids, such as `rack4-*`."""
    pool: _Pattern = "*"
    """Pattern of pools."""
    reason: Annotated[_Text, Field(min_length=1, max_length=500)]
    ends_in_s: Annotated[Float, Field(ge=1, le=365 * _DAY_S)] | None = None
    ends_at: Time | None = None
    """RFC 3339; within a year."""


class SilenceParameters(_Request):
    """The query string of a listing of silences."""

    all: bool = False
    """Also those that have ended, of the last 90 days."""


# --- /api/v1: answers --------------------------------------------------------------------------------------------------
class Answer(BaseModel):
    """Something we answer; read by the command line, which a newer server must not break."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class MachineList(Answer):
    """A page of a listing."""

    machines: list[Description]
    next_cursor: str | None
    """Give it back as `cursor` for the next page; null on the last one."""


class HistoryPage(Answer):
    """A part of a machine's history, newest first."""

    entries: list[HistoryEntry]
    next_before: str | None
    """Give it back as `before` to continue; null at the end."""


class FleetStatsNow(Answer):
    """The latest window of each pool, the whole fleet (`*`) first."""

    stats: list[FleetStats]
    """Empty: none is known yet."""


class FleetStatsHistory(Answer):
    """One pool over time, oldest first."""

    pool: str
    step_s: int
    """Seconds that one entry stands for. Its first and last window may not have been there as a whole."""
    stats: list[FleetStats]


class PowerNow(Answer):
    """Where a machine's power comes from, and the latest command."""

    record: PowerRecord | None
    """Null: there was none, or it is forgotten."""
    outlet: PowerOutlet | None
    """Null: no agent has told of it."""
    agent_silent_s: float | None
    """For how many seconds nothing was heard of the outlet's agent, when that is too long; null: it is there."""


class PowerCommandPage(Answer):
    """Power commands and what became of them, newest first."""

    commands: list[PowerRecord]
    next_before: str | None
    """Give it back as `before` to continue; null at the end."""


class PowerOutletList(Answer):
    """Where machines' power comes from, by machine id."""

    outlets: list[PowerOutlet]


class ResultsTaken(Answer):
    """The broker has the results. What becomes of them shows in commands and machines."""

    taken: int


class LeaseState(Answer):
    """Whether the lease is the caller's now."""

    held: bool


class SilenceList(Answer):
    """Silences, by id."""

    silences: list[Silence]


class WhoAmI(Answer):
    """Whom the server takes the caller for."""

    user: str
    role: Literal["viewer", "operator", "admin", "machine", "agent"]


class Accepted(Answer):
    """The broker has the event. What becomes of it shows in the machine's description."""


class FieldError(Answer):
    """What is wrong with one field of a request."""

    field: str
    """Such as `host.name`; `body` for the document as a whole."""
    message: str


class Problem(Answer):
    """Why a request failed, RFC 9457."""

    type: str
    """`about:blank`, or where the documentation explains it."""
    title: str
    status: int
    detail: str
    instance: str
    """Path of the request."""
    reason: str | None = None
    """One word for programs, where there are several reasons for one status: why a power command is refused, or that an
    `Idempotency-Key` has come with another request before."""
    errors: list[FieldError] | None = None


# --- the old machine server's bodies -----------------------------------------------------------------------------------
class SetAttachedDeviceRequest(WireModel):
    """Body of `set_attached_device`. The set is closed here; the old server took any text."""

    attached_device: AttachedDevice = Field(alias="AttachedDevice")


class SetNoteRequest(WireModel):
    """Body of `set_note`: an annotation, of which only the text counts."""

    message: str = Field(default="", alias="Message", max_length=10_000)


class SupplyChromeOSRequest(WireModel):
    """Body of `supply_chromeos`."""

    ssh_user_ip: str = Field(default="", alias="SSHUserIP")
    supplied_dimensions: Annotated[Dimensions | None, AfterValidator(_check_without_id)] = Field(
        default=None, alias="SuppliedDimensions"
    )


class PowerCycleStateOfMachine(WireModel):
    """What a power controller says of one machine."""

    machine_id: str = Field(alias="MachineID")
    """Checked one by one: a malformed one must not hold up the others."""
    powercycle_state: PowerCycleState = Field(alias="PowerCycleState")


class UpdatePowerCycleStateRequest(WireModel):
    """Body of `powercycle/state/update`."""

    machines: list[PowerCycleStateOfMachine] | None = Field(
        default=None, alias="Machines", max_length=100_000
    )


class LoginStatus(Answer):
    """Answer of `/loginstatus/`."""

    email: str
    roles: list[str]


# --- the older power system's bodies -----------------------------------------------------------------------------------
class BotDimension(Answer):
    """A dimension as Swarming spells it."""

    key: str
    value: list[str]


class DownBot(Answer):
    """A machine whose power should be cycled."""

    bot_id: str
    host_id: str
    """`jumphost-<agent>`: the host that can do it; empty: an agent of the older system has it, and has not said so lately."""
    dimensions: list[BotDimension]
    status: Literal["Host Missing", "Device Missing"]
    since: Time
    silenced: bool
    """Leave it alone: somebody wished so."""


class DownBots(Answer):
    """Answer of `/down_bots`."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    bots: list[DownBot] = Field(alias="list")


class PoweredBotsRequest(WireModel):
    """Body of `/powercycled_bots`: whose power has been cycled."""

    powercycled_bots: Annotated[
        list[Annotated[str, Field(max_length=200)]], Field(max_length=MOST_POWERED_BOTS, fail_fast=True)
    ]
    """Machine ids; `-device` at the end means the device that hangs on the machine."""
