"""Tasks come before power commands: one that nobody has begun is withdrawn when its machine reports that it runs a task.

Whether a task runs is looked at when a command is ordered; it may wait for minutes behind others, or for its agent. Nothing is
remembered here: as long as both are so, every report of the machine is a reason to look. Whoever began meanwhile goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pipeline import logs
from pipeline.errors import MachineNotFound, PowerRefused, VersionMismatch
from pipeline.processor import power
from pipeline.store.power_protocol import PowerStore
from pipeline.store.protocol import LABKEEPER_USER, Updated
from schemas.power import PowerStatus

_QUEUED: Final = PowerStatus.QUEUED.value
_WHY: Final = f"the machine runs a task; to end it that way, {power.USE_FORCE}"

log = logs.get_logger()


async def let_tasks_go_first(store: PowerStore, updated: Sequence[Updated], *, now: datetime) -> None:
    """Withdraw commands of these machines that wait while a task runs. Asks the store about such machines only."""
    for each in updated:
        machine = each.after
        if machine.power_status == _QUEUED and machine.is_busy:  # for every report of every machine
            await _look(store, each, now)


async def _look(store: PowerStore, update: Updated, now: datetime) -> None:
    machine_id = update.machine_id
    records = await store.power_commands(machine_id=machine_id, pending=True, limit=1)
    if not any(power.gives_way(update.after, record.command) for record in records):
        return
    versions = [update.after.row_version]  # what has changed since is in a later report, or looked at there
    try:
        await store.cancel_power(machine_id, now=now, who=LABKEEPER_USER, why=_WHY, versions=versions)
    except (PowerRefused, VersionMismatch, MachineNotFound) as error:
        log.info("command_not_withdrawn", machine=machine_id, reason=str(error))
    else:
        log.info("command_withdrawn", machine=machine_id, reason=_WHY)
