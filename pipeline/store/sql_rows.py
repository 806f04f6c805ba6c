"""What the halves of the SQL store share: how rows of machines are locked, edited and remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Never, TypeVar

from pipeline.processor.pools import Pools
from pipeline.store import queries
from pipeline.store.cache import RowCache
from pipeline.store.columns import description_from
from pipeline.store.edits import Edit, edit
from pipeline.store.literals import plain_array
from pipeline.store.power_rows import reported_states
from pipeline.store.transaction import Database, Isolation, Session, Work
from pipeline.store.writing import Order, write
from schemas.description import Description, PowerCycleState

T = TypeVar("T")

_NOTHING: Final[Mapping[str, Never]] = {}


class Strangers(Exception):
    """Some of the machines have no row that could be locked."""


class SqlRows:
    """Machines on a database, and the rows of them that are remembered."""

    def __init__(self, database: Database, cache: RowCache, pools: Pools) -> None:
        self._database = database
        self._cache = cache
        self._pools = pools

    def _transact(self, work: Work[T]) -> T:
        """Locked rows are enough, unless there are machines whose rows are not there to be locked."""
        try:
            return self._database.transact(work, Isolation.LOCKED)
        except Strangers:
            return self._database.transact(work)

    def _remember(self, edits: Sequence[Edit]) -> None:
        self._cache.remember({each.machine_id: each.after for each in edits if each.after.row_version > 0})

    def _locked(self, session: Session, machine_ids: Sequence[str]) -> dict[str, Description]:
        """Those that exist, locked until the transaction ends. Raises `Strangers` if that is not all, and not enough."""
        versions = session.fetch(queries.LOCK_VERSIONS, (plain_array(machine_ids),))
        if session.isolation is Isolation.LOCKED and len(versions) < len(machine_ids):
            raise Strangers
        befores = self._cache.find((machine_id, version) for machine_id, version in versions)
        unknown = [machine_id for machine_id, _ in versions if machine_id not in befores]
        if unknown:
            for machine_id, *row in session.fetch(queries.READ_MACHINES, (plain_array(unknown),)):
                befores[machine_id] = description_from(row)
        return befores

    def _carry_out(self, session: Session, order: Order, befores: Mapping[str, Description]) -> list[Edit]:
        new = [each for each in order.changes if each not in befores]
        edits = self._edits(order, befores, _last_versions(session, new), reported_states(session, new))
        write(session, order, edits)
        return edits

    def _edits(
        self,
        order: Order,
        befores: Mapping[str, Description],
        last_versions: Mapping[str, int] = _NOTHING,
        power_states: Mapping[str, PowerCycleState] = _NOTHING,
    ) -> list[Edit]:
        return [
            edit(
                machine_id,
                befores.get(machine_id),
                changes,
                now=order.now,
                pools=self._pools,
                last_version=last_versions.get(machine_id, 0),
                power_cycle_state=power_states.get(machine_id, PowerCycleState.NOT_AVAILABLE),
            )
            for machine_id, changes in order.changes.items()
        ]


def _last_versions(session: Session, machine_ids: Sequence[str]) -> dict[str, int]:
    if not machine_ids:
        return {}
    return dict(session.fetch(queries.LAST_VERSIONS, (plain_array(machine_ids),)))
