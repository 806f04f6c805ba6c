"""May this machine's power be driven, and what does a command do to its Description? Pure."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final

from pipeline.processor.quoting import quoted
from schemas.description import Annotation, Description, PowerCycleState
from schemas.power import PowerAction, PowerCommand, PowerStatus

USE_FORCE: Final = 'use "force" (on the command line, --force)'
"""What to do, for all: the API's field, the page's button, and the option."""


class Refusal(StrEnum):
    """Why a command is not even queued."""

    NO_CONTROLLER = "no_controller"
    CONTROLLER_IN_ERROR = "controller_in_error"
    MAINTENANCE = "maintenance"
    TASK_RUNNING = "task_running"


def refusal(machine: Description, command: PowerCommand) -> tuple[Refusal, str] | None:
    """Why this command must be refused, and in words what to do; None when it may be carried out.

    Its `force` overrules everything but a missing controller.
    """
    machine_id = command.machine_id
    if machine.power_cycle_state not in {PowerCycleState.AVAILABLE, PowerCycleState.IN_ERROR}:
        return (
            Refusal.NO_CONTROLLER,
            f"no power controller has {machine_id}: add its port to the configuration of an agent",
        )
    if command.force:
        return None
    if machine.power_cycle_state == PowerCycleState.IN_ERROR:
        return (
            Refusal.CONTROLLER_IN_ERROR,
            f"the power controller of {machine_id} does not answer; to try all the same, {USE_FORCE}",
        )
    if machine.in_maintenance and machine.maintenance_mode.split(" ", 1)[0] != command.who:
        return (
            Refusal.MAINTENANCE,
            f"{machine_id} is in maintenance ({machine.maintenance_mode}); to drive its power all the same, {USE_FORCE}",
        )
    if command.action is not PowerAction.ON and machine.is_busy:
        return (Refusal.TASK_RUNNING, f"{machine_id} runs a task; to end it that way, {USE_FORCE}")
    return None


def gives_way(machine: Description, command: PowerCommand) -> bool:
    """Whether the command, if nobody has begun it, is to be withdrawn: its machine has taken up a task since."""
    return machine.is_busy and command.action is not PowerAction.ON and not command.force


def ordered(before: Description, *, command: PowerCommand, now: datetime) -> Description:
    """Take note of a command that was queued. The annotation of a cycle is the old server's."""
    message = f"Requested {_named(command)} for {quoted(command.machine_id)}"
    return before.model_copy(
        update={
            "power_cycle": command.action is PowerAction.CYCLE,
            "power_action": command.action.value,
            "power_status": PowerStatus.QUEUED.value,
            "annotation": Annotation(message=message, user=command.who, timestamp=now),
        }
    )


def withdrawn(before: Description, *, command: PowerCommand, who: str, now: datetime) -> Description:
    """Take note of who withdrew a command that was queued."""
    message = f"Cancelled {_named(command)} for {quoted(command.machine_id)}"
    annotation = Annotation(message=message, user=who, timestamp=now)
    return before.model_copy(update={"annotation": annotation})


def _named(command: PowerCommand) -> str:
    return "powercycle" if command.action is PowerAction.CYCLE else f"power {command.action}"


def advanced(before: Description, *, action: PowerAction, status: PowerStatus) -> Description:
    """Take note of how far the latest command is."""
    changed = {
        "power_cycle": action is PowerAction.CYCLE and status.is_pending,
        "power_action": action.value,
        "power_status": status.value,
    }
    if all(getattr(before, name) == value for name, value in changed.items()):
        return before
    return before.model_copy(update=changed)
