"""Entering and leaving recovery: the state of a machine that must not get work until its device is well again."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from schemas.description import Annotation, Description

AUTOMATIC_USER: Final = "labkeeper"
"""Who signs automatic annotations."""

LEAVING: Final = "Leaving recovery mode."


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
