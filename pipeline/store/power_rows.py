"""Log."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline import logs
from schemas.power import PowerStep

log = logs.get_logger()


def log_strangers(steps: Sequence[PowerStep]) -> None:
    """Tell of steps that were ignored."""
    for step in steps:
        log.warning(
            "power_step_ignored",
            machine=step.machine_id,
            command=step.command_id,
            status=step.status.value,
            agent=step.agent,
            reason="the store knows no such command of this machine",
        )
