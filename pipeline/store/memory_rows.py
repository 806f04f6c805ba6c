"""What the halves of the store in memory share: machines with their history, their outlets, and the outbox."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from pipeline.broker.protocol import Outgoing
from pipeline.clock import Clock
from pipeline.errors import Rejected
from pipeline.processor.pools import Pools
from pipeline.processor.transition import Difference
from pipeline.store.edits import Edit, edit
from pipeline.store.history import lines
from pipeline.store.literals import has_nul, to_json
from pipeline.store.protocol import Change, OutboxRow
from schemas.changes import HistoryEntry
from schemas.description import Description, PowerCycleState
from schemas.ids import new_ulid
from schemas.power import PowerOutlet
from schemas.wire import WireModel

_NUL: Final = "the database does not take it: text must not contain NUL characters"


class MemoryRows:
    """Dictionaries, and how an edit gets into them."""

    def __init__(self, pools: Pools, clock: Clock) -> None:
        self._pools = pools
        self._clock = clock
        self._machines: dict[str, Description] = {}
        self._last_versions: dict[str, int] = {}
        self._outlets: dict[str, PowerOutlet] = {}
        self._history: dict[str, list[HistoryEntry]] = defaultdict(list)
        self._outbox: dict[tuple[str, int, str], OutboxRow] = {}

    def _edits(self, changes: Mapping[str, Sequence[Change]], now: datetime) -> list[Edit]:
        edits = [
            edit(
                machine_id,
                self._machines.get(machine_id),
                steps,
                now=now,
                pools=self._pools,
                last_version=self._last_versions.get(machine_id, 0),
                power_cycle_state=self._reported_state(machine_id),
            )
            for machine_id, steps in changes.items()
        ]
        for each in edits:
            check_storable(each.after)
        return edits

    def _reported_state(self, machine_id: str) -> PowerCycleState:
        outlet = self._outlets.get(machine_id)
        return PowerCycleState.NOT_AVAILABLE if outlet is None else outlet.state

    def _write(self, edits: Sequence[Edit], now: datetime, who: str, why: str) -> None:
        check_text(who, why)
        for each in edits:
            if each.kinds:
                self._machines[each.machine_id] = each.after
                self._add_history(each.machine_id, each.differences, each.after.row_version, now, who, why)

    def _add_history(
        self,
        machine_id: str,
        differences: Sequence[Difference],
        version: int,
        now: datetime,
        who: str,
        why: str,
    ) -> None:
        self._history[machine_id].extend(
            line.entry(at=now, who=who, why=why)
            for line in lines(machine_id, differences, now=now, version=version)
        )

    def _announce(self, message: Outgoing, version: int, now: datetime) -> None:
        row = OutboxRow(new_ulid(), version, message, now)
        self._outbox[message.key, version, row.id] = row


def check_storable(model: WireModel) -> None:
    """Raise `Rejected` for text that no database takes."""
    if has_nul(to_json(model.model_dump())):
        raise Rejected(_NUL)


def check_text(*texts: str) -> None:
    """The same for bare texts."""
    if any("\0" in text for text in texts):
        raise Rejected(_NUL)
