"""What a step did to a Description, and what a person would call a change in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.changes import ChangeKind
from schemas.description import Annotation, Description
from schemas.power import PowerStatus
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
    is_line: bool = True
    """Whether the history has a line for it. The steps between a power command's beginning and its end stand elsewhere."""


def differences(before: Description, after: Description) -> tuple[Difference, ...]:
    """Everything in the history's sense that differs; empty for a mere heartbeat."""
    return (*_of_service(before, after), *_of_the_rest(before, after))


def _of_service(before: Description, after: Description) -> list[Difference]:
    """What decides whether the machine can be lent, and what is done about it."""
    found: list[Difference] = []
    if before.maintenance_mode != after.maintenance_mode:
        found.append(Difference(ChangeKind.MODE, before.maintenance_mode, after.maintenance_mode))
    if before.is_quarantined != after.is_quarantined:
        found.append(Difference(ChangeKind.QUARANTINE, _quarantine(before), _quarantine(after)))
    if before.recovering != after.recovering:
        found.append(Difference(ChangeKind.RECOVERY, before.recovering, after.recovering))
    if before.attached_device != after.attached_device or before.ssh_user_ip != after.ssh_user_ip:
        found.append(Difference(ChangeKind.DEVICE, _device(before), _device(after)))
    if (difference := _power_difference(before, after)) is not None:
        found.append(difference)
    if before.healing != after.healing:
        found.append(Difference(ChangeKind.HEALING, before.healing, after.healing))
    return found


def _of_the_rest(before: Description, after: Description) -> list[Difference]:
    found: list[Difference] = []
    if before.dimensions is not after.dimensions and (pair := _changed_dimensions(before, after)) is not None:
        found.append(Difference(ChangeKind.DIMENSIONS, *pair))
    if before.note is not after.note and before.note != after.note:
        found.append(Difference(ChangeKind.NOTE, _note(before.note), _note(after.note)))
    if before.down_since != after.down_since:
        found.append(Difference(ChangeKind.DOWN, _down(before), _down(after)))
    if before.task_request is not after.task_request and before.task_request != after.task_request:
        found.append(Difference(ChangeKind.TASK, _task(before), _task(after)))
    return found


def _quarantine(description: Description) -> str:
    return "forced quarantine" if description.is_quarantined else ""


def _device(description: Description) -> str:
    return " ".join(filter(None, (description.attached_device, description.ssh_user_ip)))


_PASSING: Final = frozenset({PowerStatus.ACCEPTED.value, PowerStatus.OFF.value, PowerStatus.ON.value})


def _power_difference(before: Description, after: Description) -> Difference | None:
    if not any(getattr(before, name) != getattr(after, name) for name in _POWER_FIELDS):
        return None
    is_passing = (
        after.power_status in _PASSING
        and before.power_cycle_state == after.power_cycle_state
        and before.power_cycle == after.power_cycle
    )
    return Difference(ChangeKind.POWER, _power(before), _power(after), is_line=not is_passing)


def _power(description: Description) -> str:
    command = " ".join(filter(None, (description.power_action, description.power_status)))
    if description.power_cycle and not command:
        command = "power cycle requested"  # by an old server's client
    return ", ".join(filter(None, (description.power_cycle_state, command)))


_POWER_FIELDS: Final = ("power_cycle", "power_cycle_state", "power_action", "power_status")


def _note(note: Annotation) -> str:
    return note.message


def _down(description: Description) -> str:
    return f"silent since {format_time(description.down_since)}" if description.is_down else ""


def _task(description: Description) -> str:
    return description.task_request.name if description.task_request is not None else ""


_RESTATED = ("quarantined", "tmm_version")
"""`quarantined` repeats mode, quarantine and recovery in words; a monitor's new version is no change of the machine."""


def _changed_dimensions(before: Description, after: Description) -> tuple[str, str] | None:
    old, new = _stated(before), _stated(after)
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return (_listed(old, keys), _listed(new, keys)) if keys else None


def _stated(description: Description) -> dict[str, list[str]]:
    """Dimensions that say something of their own; an empty one is as good as none."""
    dimensions = description.dimensions or {}
    return {key: values for key, values in dimensions.items() if values and key not in _RESTATED}


def _listed(dimensions: dict[str, list[str]], keys: list[str]) -> str:
    return ", ".join(f"{key}={'|'.join(dimensions[key])}" for key in keys if key in dimensions)
