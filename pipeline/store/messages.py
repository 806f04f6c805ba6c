"""What is told of a row that was written: on `machine.changes`, and of commands on `power.commands`."""

from __future__ import annotations

from typing import Final

from pipeline.broker.protocol import Outgoing
from pipeline.store.protocol import Updated
from schemas.changes import ChangeKind, change_json
from schemas.envelope import CHANGE_TYPE, POWER_COMMAND_TYPE, ROW_VERSION, metadata
from schemas.power import PowerCommand
from schemas.topics import MACHINE_CHANGES, POWER_COMMANDS

_SOURCE: Final = "/labkeeper/store"


def change_message(updated: Updated, who: str) -> Outgoing:
    """A machine's new state, whoever publishes it. The same state has the same message id."""
    machine_id = updated.machine_id
    headers = metadata(CHANGE_TYPE, _SOURCE, message_id=f"{machine_id}:{updated.after.row_version}")
    kinds = updated.kinds or (ChangeKind.HEARTBEAT,)
    return Outgoing(MACHINE_CHANGES, machine_id, change_json(machine_id, kinds, who, updated.after), headers)


def deletion_message(machine_id: str, version: int) -> Outgoing:
    """There is no such machine any more: an empty value, which also lets a compacted topic forget it."""
    headers = metadata(CHANGE_TYPE, _SOURCE, message_id=f"{machine_id}:{version}")
    return Outgoing(MACHINE_CHANGES, machine_id, b"", {**headers, ROW_VERSION: str(version)})


def command_message(command: PowerCommand) -> Outgoing:
    """A command for whoever has the machine's port, or its withdrawal."""
    message_id = f"{command.id}:cancelled" if command.cancelled else command.id
    headers = metadata(POWER_COMMAND_TYPE, _SOURCE, message_id=message_id)
    return Outgoing(POWER_COMMANDS, command.machine_id, command.model_dump_json().encode(), headers)
