"""What a step did to a Description, and what a person would call a change in it."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.changes import ChangeKind
from schemas.description import Annotation, Description
from schemas.wire import format_time


@dataclass(frozen=True, slots=True)
class Transition:
    """The outcome of applying one event."""

    after: Description
    replayed: bool = False
    """The event had been applied before: `after` is the Description as it was, the very same object."""
    unknown_type: bool = False
    """Not a `raw_state` event: `after` is the Description as it was, the very same object."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that changed, in words."""

    kind: ChangeKind
    before: str
    after: str


def differences(before: Description, after: Description) -> tuple[Difference, ...]:
    """Everything in the history's sense that differs; empty for a mere heartbeat."""
    found: list[Difference] = []
    if before.maintenance_mode != after.maintenance_mode:
        found.append(Difference(ChangeKind.MODE, before.maintenance_mode, after.maintenance_mode))
    if before.is_quarantined != after.is_quarantined:
        found.append(Difference(ChangeKind.QUARANTINE, _quarantine(before), _quarantine(after)))
    if before.recovering != after.recovering:
        found.append(Difference(ChangeKind.RECOVERY, before.recovering, after.recovering))
    if (old := _device(before)) != (new := _device(after)):
        found.append(Difference(ChangeKind.DEVICE, old, new))
    if (old := _power(before)) != (new := _power(after)):
        found.append(Difference(ChangeKind.POWER, old, new))
    if before.dimensions is not after.dimensions and (pair := _changed_dimensions(before, after)) is not None:
        found.append(Difference(ChangeKind.DIMENSIONS, *pair))
    if before.note is not after.note and before.note != after.note:
        found.append(Difference(ChangeKind.NOTE, _note(before.note), _note(after.note)))
    if before.down_since != after.down_since:
        found.append(Difference(ChangeKind.DOWN, _down(before), _down(after)))
    if before.task_request is not after.task_request and before.task_request != after.task_request:
        found.append(Difference(ChangeKind.TASK, _task(before), _task(after)))
    return tuple(found)


def _quarantine(description: Description) -> str:
    return "forced quarantine" if description.is_quarantined else ""


def _device(description: Description) -> str:
    return " ".join(filter(None, (description.attached_device, description.ssh_user_ip)))


def _power(description: Description) -> str:
    return " ".join(
        filter(
            None, (description.power_cycle_state, "power cycle requested" if description.power_cycle else "")
        )
    )


def _note(note: Annotation) -> str:
    return note.message


def _down(description: Description) -> str:
    return f"silent since {format_time(description.down_since)}" if description.is_down else ""


def _task(description: Description) -> str:
    return description.task_request.name if description.task_request is not None else ""


_RESTATED = ("quarantined", "tmm_version")
"""`quarantined` repeats mode, quarantine and recovery in words; a monitor's new version is no change of the machine."""


def _changed_dimensions(before: Description, after: Description) -> tuple[str, str] | None:
    old, new = before.dimensions or {}, after.dimensions or {}
    if old == new:
        return None
    keys = sorted(
        key for key in old.keys() | new.keys() if key not in _RESTATED and old.get(key) != new.get(key)
    )
    if not keys:
        return None
    return _listed(old, keys), _listed(new, keys)


def _listed(dimensions: dict[str, list[str] | None], keys: list[str]) -> str:
    return ", ".join(f"{key}={'|'.join(dimensions[key] or ())}" for key in keys if key in dimensions)
