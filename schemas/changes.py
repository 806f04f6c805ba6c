"""What happened to a machine: `MachineChange`, the value of `machine.changes`, and `HistoryEntry`, a line of its history."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import Field
from pydantic_core import to_json

from schemas.description import Description
from schemas.ids import MachineId
from schemas.wire import Int64, Time, WireModel


class ChangeKind(StrEnum):
    """What a change was about. A change may be about several things; a heartbeat is about none of the others."""

    CREATED = "created"
    HEARTBEAT = "heartbeat"
    MODE = "mode"
    QUARANTINE = "quarantine"
    RECOVERY = "recovery"
    DEVICE = "device"
    POWER = "power"
    DIMENSIONS = "dimensions"
    NOTE = "note"
    DOWN = "down"
    TASK = "task"
    HEALING = "healing"
    DELETED = "deleted"


class MachineChange(WireModel):
    """A machine's new state. Carries all of it and a version, so taking one twice or out of order is harmless."""

    id: MachineId
    version: Int64
    """`Description.RowVersion`: the higher one is newer."""
    kinds: list[ChangeKind]
    who: str
    """An operator's e-mail, or `labkeeper`."""
    description: Description


def change_json(machine_id: str, kinds: Sequence[ChangeKind], who: str, description: Description) -> bytes:
    """The JSON of a `MachineChange` with the description's version.

    Every event passes here: to build the model first, only to write it, would take three times as long. Machine ids
    and kinds need no escaping.
    """
    listed = ",".join([f'"{kind}"' for kind in kinds])
    return (
        f'{{"id":"{machine_id}","version":{description.row_version},"kinds":[{listed}],'
        f'"who":{to_json(who).decode()},"description":{description.model_dump_json()}}}'
    ).encode()


class HistoryEntry(WireModel):
    """Something about a machine that a person would call a change."""

    id: str
    """ULID; newer entries have greater ones."""
    machine_id: MachineId
    at: Time
    kind: ChangeKind
    who: str
    before: str
    """The old value in words; empty when there was none."""
    after: str
    """The new value in words; empty when there is none."""
    why: str = Field(default="")
    """The reason that was given, if any."""
