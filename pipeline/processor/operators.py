"""What people, power agents and the watchdog do to a machine.

Pure functions from Description to Description; `functools.partial` makes one a `Change` for the store, which then applies
`normalize`. What is so already returns the very same object, so that nothing is written; a toggle, a note, a removal and
a supply always change something.
"""

from __future__ import annotations

from datetime import datetime

from pipeline.processor.quoting import quoted
from schemas.description import Annotation, AttachedDevice, Description, PowerCycleState
from schemas.wire import Dimensions, format_time


def set_maintenance(before: Description, *, user: str, now: datetime, reason: str = "") -> Description:
    """Take a machine into maintenance. One that is in maintenance keeps the first person's name, time and reason."""
    if before.in_maintenance:
        return before
    since = format_time(now.replace(microsecond=0))
    return before.model_copy(
        update={
            "maintenance_mode": f"{user} {since} {reason}" if reason else f"{user} {since}",
            "annotation": Annotation(message="Enabled Maintenance Mode", user=user, timestamp=now),
        }
    )


def clear_maintenance(before: Description, *, user: str, now: datetime) -> Description:
    """End maintenance."""
    if not before.in_maintenance:
        return before
    return before.model_copy(
        update={
            "maintenance_mode": "",
            "annotation": Annotation(message="Cleared Maintenance Mode.", user=user, timestamp=now),
        }
    )


def toggle_mode(before: Description, *, user: str, now: datetime) -> Description:
    """Begin or end maintenance."""
    toggle = clear_maintenance if before.in_maintenance else set_maintenance
    return toggle(before, user=user, now=now)


def clear_quarantine(before: Description) -> Description:
    """End a forced quarantine."""
    return before.model_copy(update={"is_quarantined": False}) if before.is_quarantined else before


def cancel_power_cycle(before: Description, *, machine_id: str, user: str, now: datetime) -> Description:
    """Withdraw the wish for a power cycle."""
    if not before.power_cycle:
        return before
    message = f"Cancelled powercycle for {quoted(machine_id)}"
    return before.model_copy(
        update={
            "power_cycle": False,
            "annotation": Annotation(message=message, user=user, timestamp=now),
        }
    )


def complete_power_cycle(before: Description) -> Description:
    """Take note that the power has been cycled."""
    return before.model_copy(update={"power_cycle": False}) if before.power_cycle else before


def set_power_cycle_state(before: Description, *, state: PowerCycleState) -> Description:
    """Take note of whether some power controller can cycle the machine."""
    if before.power_cycle_state == state.value:
        return before
    return before.model_copy(update={"power_cycle_state": state.value})


def set_attached_device(before: Description, *, device: AttachedDevice) -> Description:
    """Tell the monitor what to interrogate."""
    if before.attached_device == device.value:
        return before
    return before.model_copy(update={"attached_device": device.value})


def remove_device(before: Description, *, machine_id: str, user: str, now: datetime) -> Description:
    """Forget all that is known of the attached device. The machine keeps its id, and goes on recovering if it was."""
    message = f"Requested device removal of {quoted(machine_id)}"
    return before.model_copy(
        update={
            "dimensions": {"id": before.dimension("id") or [machine_id]},
            "temperature": None,
            "supplied_dimensions": None,
            "ssh_user_ip": "",
            "device_kind": "",
            "annotation": Annotation(message=message, user=user, timestamp=now),
        }
    )


def set_note(before: Description, *, message: str, user: str, now: datetime) -> Description:
    """Leave a note, or with an empty message take it away."""
    return before.model_copy(update={"note": Annotation(message=message, user=user, timestamp=now)})


def supply_chromeos(
    before: Description, *, ssh_user_ip: str, dimensions: Dimensions, now: datetime
) -> Description:
    """Say where a ChromeOS device answers (see `ssh_target`) and what it is; its next event takes the dimensions over."""
    return before.model_copy(
        update={"ssh_user_ip": ssh_user_ip, "supplied_dimensions": dimensions, "last_updated": now}
    )


def mark_down(before: Description, *, since: datetime) -> Description:
    """Take note that a machine has been silent since then, unless it has spoken later. Its next event clears it."""
    if before.is_down or before.last_updated > since:
        return before
    return before.model_copy(update={"down_since": since})
