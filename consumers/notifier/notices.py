"""What is worth telling people of a machine's change. Pure."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from schemas.changes import ChangeKind, MachineChange
from schemas.description import Description, PowerCycleState
from schemas.healing import HealingState, healing_state
from schemas.wire import format_time


class NoticeKind(StrEnum):
    """What people can be told of."""

    DOWN = "down"
    """A machine has fallen silent."""
    BACK = "back"
    """It speaks again."""
    HEALED = "healed"
    """It is well again after a power cycle of self-healing's."""
    GAVE_UP = "gave_up"
    """Self-healing has tried as often as it may."""
    QUARANTINED = "quarantined"
    """A task asked for it to be taken out of service."""
    CONTROLLER = "controller"
    """Its power controller does not answer."""


class Notice(BaseModel):
    """One thing about one machine."""

    model_config = ConfigDict(frozen=True)

    kind: NoticeKind
    machine_id: str
    pools: tuple[str, ...]
    at: datetime
    text: str
    """More about it, such as since when; may be empty."""


def notices_of(change: MachineChange, *, at: datetime, in_error: set[str]) -> list[Notice]:
    """What this change has to tell.

    `in_error` holds the machines whose controllers are known not to answer; it is brought up to date. All else stands in
    the change itself: nothing need be remembered of a machine.
    """
    machine = change.description
    found = [(kind, text) for kind, text in _found(change.kinds, machine)]
    if machine.power_cycle_state != PowerCycleState.IN_ERROR:
        in_error.discard(change.id)
    elif change.id not in in_error:
        in_error.add(change.id)
        found.append((NoticeKind.CONTROLLER, ""))
    pools = tuple(machine.dimension("pool"))
    return [Notice(kind=kind, machine_id=change.id, pools=pools, at=at, text=text) for kind, text in found]


def _found(kinds: list[ChangeKind], machine: Description) -> list[tuple[NoticeKind, str]]:
    found: list[tuple[NoticeKind, str]] = []
    if ChangeKind.DOWN in kinds and machine.is_down:
        found.append(
            (NoticeKind.DOWN, f"silent since {format_time(machine.down_since.replace(microsecond=0))}")
        )
    elif ChangeKind.DOWN in kinds:
        found.append((NoticeKind.BACK, ""))
    if ChangeKind.QUARANTINE in kinds and machine.is_quarantined:
        found.append((NoticeKind.QUARANTINED, ""))
    if ChangeKind.HEALING in kinds:
        said = machine.healing.partition(": ")[2]
        match healing_state(machine.healing):
            case HealingState.GAVE_UP:
                found.append((NoticeKind.GAVE_UP, said))
            case HealingState.HEALED:
                found.append((NoticeKind.HEALED, said))
            case _:
                pass
    return found
