"""What a sequence of changes does to one machine: its next row, its history, and what to tell the world. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipeline.errors import Rejected, VersionMismatch
from pipeline.processor.normalize import normalize
from pipeline.processor.pools import Pools
from pipeline.processor.transition import Difference, differences
from pipeline.store.columns import only_heartbeat_differs
from pipeline.store.protocol import Change, Updated
from schemas.changes import ChangeKind
from schemas.description import Description, PowerCycleState
from schemas.ids import MACHINE_ID_RULE, is_machine_id

DELETED: Final = Difference(ChangeKind.DELETED, "", "deleted")
_CREATED: Final = Difference(ChangeKind.CREATED, "", "created")
_HEARTBEAT: Final = (ChangeKind.HEARTBEAT,)


# Not frozen: that would triple the time it takes to make one, for every machine of a batch.
@dataclass(slots=True)
class Edit:
    """The outcome for one machine."""

    machine_id: str
    before: Description | None
    """As it lies in the store; None: the machine is new."""
    after: Description
    kinds: tuple[ChangeKind, ...]
    """Empty: nothing is to be written."""
    differences: Sequence[Difference] = ()
    """Lines of the history, in order."""
    is_heartbeat: bool = False
    """The machine is there already, and no step changed more than the heartbeat's columns."""

    @property
    def updated(self) -> Updated:
        """The same for the caller."""
        return Updated(self.machine_id, self.after, self.kinds)


def check_expected(machine_id: str, version: int, expected: Collection[int] | None) -> None:
    """Raise `VersionMismatch` unless the version is among the expected ones; None expects any."""
    if expected is not None and version not in expected:
        raise VersionMismatch(machine_id, version)


def edit(  # one function for the sake of speed: it runs for every machine of a batch
    machine_id: str,
    before: Description | None,
    changes: Sequence[Change],
    *,
    now: datetime,
    pools: Pools,
    last_version: int = 0,
    power_cycle_state: PowerCycleState = PowerCycleState.NOT_AVAILABLE,
) -> Edit:
    """Apply the changes in order, normalizing after each, so that a batch gives what one call for each would give.

    For a new machine: `last_version` is what a deleted one of this id had counted up to, and `power_cycle_state` what its
    outlet's agent said last. Raises what a change raises.
    """
    if before is None:
        first = Description.new(machine_id, now=now, power_cycle_state=power_cycle_state)
        current = normalize(first, pools, machine_id)
    else:
        current = before
        last_version = before.row_version
    found: list[Difference] = []
    written = False
    is_heartbeat = before is not None
    for change in changes:
        changed = change(current)
        if changed is not current:
            changed = normalize(changed, pools, machine_id, normal=current)
            if not only_heartbeat_differs(current, changed):
                found.extend(differences(current, changed))
                is_heartbeat = False
            current = changed
            written = True
    if not written:
        return Edit(machine_id, before, current, ())
    if before is None:
        found.insert(0, _CREATED)
    kinds = tuple(dict.fromkeys(each.kind for each in found)) if found else _HEARTBEAT
    after = current.evolve({"row_version": last_version + 1})
    return Edit(machine_id, before, after, kinds, found, is_heartbeat)


def checked(changes: Mapping[str, Sequence[Change]]) -> Mapping[str, Sequence[Change]]:
    """The same, if every key can name a machine; raises `Rejected` otherwise."""
    for machine_id in changes:
        if not is_machine_id(machine_id):
            raise Rejected(f"a machine id has {MACHINE_ID_RULE}")
    return changes
