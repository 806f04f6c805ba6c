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
from schemas.wire import Body, Dimensions, Time, WireModel

PROBLEM_TYPE: Final = "application/problem+json"
"""Content type of `Problem`, RFC 9457."""

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
