"""What a Swarming server's word about a bot does to a machine that has no monitor of ours.

A machine that a monitor has ever reported is left alone: what runs on it knows better. To hand it over to Swarming's word,
delete it; the next poll makes it anew.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pipeline.processor.quoting import quoted_list
from pipeline.processor.recovery import device_missing, recovery
from schemas.description import Description
from schemas.event import SwarmingBot
from schemas.wire import ZERO_TIME

DEVICE_KIND: Final = "swarming"
"""Marks a machine that is known by Swarming's word alone."""

_RESTATED: Final = ("id", "quarantined")


def has_monitor(machine: Description) -> bool:
    """Whether a monitor of ours has ever reported this machine."""
    return machine.version != "" or machine.device_kind not in ("", DEVICE_KIND)


def told_by_swarming(
    before: Description, bot: SwarmingBot, machine_id: str, *, now: datetime
) -> dict[str, object]:
    """The fields that this word sets. A dead bot is down since it called last, and recovers from nothing."""
    told: dict[str, object] = {
        "device_kind": DEVICE_KIND,
        "dimensions": _dimensions(bot, machine_id),
        "running_swarming_task": bot.task_id != "",
    }
    if not bot.is_dead:
        reason = recovery(before, _reason(before, bot), now=now)
        return {**told, "last_updated": now, "down_since": ZERO_TIME, **reason}
    since = now if bot.last_seen == ZERO_TIME else min(bot.last_seen, now)
    if before.is_down:
        since = before.down_since  # known already; servers forget
    return {**told, "last_updated": since, "down_since": since}


def _dimensions(bot: SwarmingBot, machine_id: str) -> dict[str, list[str] | None]:
    told = {name: values for name, values in (bot.dimensions or {}).items() if name not in _RESTATED}
    return {**told, "id": [machine_id]}


def _reason(before: Description, bot: SwarmingBot) -> str:
    """Why it gets no work; in the words of our own monitors where the device is gone."""
    if bot.device_missing:
        types = before.dimension("device_type") or (bot.dimensions or {}).get("device_type") or []
        return device_missing(quoted_list(types) if types else "")
    if bot.quarantine:
        return f"Quarantined in Swarming: {bot.quarantine}"
    return f"Maintenance in Swarming: {bot.maintenance}" if bot.maintenance else ""
