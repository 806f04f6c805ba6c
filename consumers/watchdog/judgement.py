"""Whether a machine is silent. Pure."""

from __future__ import annotations

from consumers.watchdog.settings import WatchdogSettings
from pipeline.processor.swarming_bot import DEVICE_KIND as SWARMING
from pipeline.store.hearing import Hearing
from schemas.description import Description


def is_silent(machine: Description, heard: Hearing, settings: WatchdogSettings) -> bool:
    """Whether the machine has been silent for longer than its pool's patience, as far as we could hear.

    Of machines that only a Swarming server tells of, that server says itself which are dead.
    """
    if machine.device_kind == SWARMING:
        return False
    listening_since = max(machine.last_updated, heard.since)
    return heard.until - listening_since > settings.patience(machine.dimension("pool"))
