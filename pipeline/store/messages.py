"""What is told on `machine.changes` of a row that was written."""

from __future__ import annotations

from typing import Final

from pipeline.broker.protocol import Outgoing
from pipeline.store.protocol import Updated
from schemas.changes import ChangeKind, change_json
from schemas.envelope import CHANGE_TYPE, ROW_VERSION, metadata
from schemas.topics import MACHINE_CHANGES

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
