"""Entering and leaving recovery: the state of a machine that must not get work until its device is well again."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from schemas.description import Annotation, Description

AUTOMATIC_USER: Final = "labkeeper"
"""Who signs automatic annotations."""

LEAVING: Final = "Leaving recovery mode."
_DEVICE: Final = "Device "
_MISSING: Final = " has gone missing"


def recovery(before: Description, reason: str, *, now: datetime) -> dict[str, object]:
    """Fields that change when there is `reason` to recover, or none (empty).

    Recovery is counted from the first reason; another reason replaces the text.
    """
    if reason == before.recovering:
        return {}
    changed: dict[str, object] = {
        "recovering": reason,
        "annotation": Annotation(message=reason or LEAVING, user=AUTOMATIC_USER, timestamp=now),
    }
    if not before.is_recovering:
        changed["recovery_start"] = now
    return changed


def device_missing(name: str = "") -> str:
    """The reason to recover when a device is gone; `name`: which one, in quotes, if that is known."""
    return (_DEVICE + name).rstrip() + _MISSING


def is_device_missing(reason: str) -> bool:
    """Whether this is such a reason."""
    return reason.startswith(_DEVICE) and reason.endswith(_MISSING)
