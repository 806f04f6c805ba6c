"""The rules that hold for every row, whoever changed it. The store applies them before it writes."""

from __future__ import annotations

from typing import Final

from pipeline.processor.pools import Pools
from schemas.description import Description
from schemas.wire import Dimensions, to_milliseconds

DEFAULT_TASK_TYPE: Final = "swarming"

_TIMES: Final = ("last_updated", "recovery_start", "task_started", "down_since")
"""Kept in milliseconds. Times in annotations keep their precision, and so does the name of a monitor's run."""


def normalize(
    description: Description, pools: Pools, machine_id: str, *, normal: Description | None = None
) -> Description:
    """Drop empty dimensions, fill in `id`, `task_type` and `pool`, restate `quarantined`, cut times to milliseconds.

    Doing it twice does nothing more. Returns the very same object, and the same maps, when all is well already. `normal`
    is a Description that has been normalized: where nothing differs from it that the rules look at, as with nearly every
    heartbeat, there is nothing to do.
    """
    changed: dict[str, object] = {}
    if normal is None or not _is_alike(description, normal, pools):
        dimensions = _normal_dimensions(description, pools, machine_id)
        if dimensions is not description.dimensions:
            changed["dimensions"] = dimensions
        supplied = _without_empty(description.supplied_dimensions)
        if supplied is not description.supplied_dimensions:
            changed["supplied_dimensions"] = supplied
    for name in _TIMES:
        moment = getattr(description, name)
        if moment.microsecond % 1000:
            changed[name] = to_milliseconds(moment)
    return description.evolve(changed) if changed else description


def _is_alike(description: Description, normal: Description, pools: Pools) -> bool:
    """Whether the rules for dimensions come to the same. Pools may have been configured anew since."""
    return (
        description.dimensions is normal.dimensions
        and description.supplied_dimensions is normal.supplied_dimensions
        and description.recovering == normal.recovering
        and description.maintenance_mode == normal.maintenance_mode
        and description.is_quarantined == normal.is_quarantined
        and description.dimensions is not None
        and pools.are_valid_in(description.dimensions)
    )


def quarantine_message(description: Description) -> str:
    """Why the machine must not get work from Swarming; empty if it may."""
    reasons = []
    if description.in_maintenance:
        reasons.append(f"Maintenance: {description.maintenance_mode}")
    if description.is_quarantined:
        reasons.append("Forced Quarantine")
    if description.is_recovering:
        reasons.append(f"Recovering: {description.recovering}")
    return ", ".join(reasons)


def _normal_dimensions(description: Description, pools: Pools, machine_id: str) -> Dimensions:
    given = _without_empty(description.dimensions)
    normal = dict(given)
    ids = normal.setdefault("id", [machine_id]) or [machine_id]
    normal.setdefault("task_type", [DEFAULT_TASK_TYPE])
    if not pools.are_valid_in(normal):
        normal["pool"] = [pools.pool_of(ids[-1])]
    message = quarantine_message(description)
    if message:
        normal["quarantined"] = [message]
    else:
        normal.pop("quarantined", None)
    return given if normal == given else normal


def _without_empty(dimensions: Dimensions | None) -> Dimensions:
    if dimensions is None:
        return {}
    if all(dimensions.values()):
        return dimensions
    return {name: values for name, values in dimensions.items() if values}
