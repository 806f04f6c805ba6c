"""Power commands and outlets on a database.

Whoever decides about a machine's commands locks the machine's row first, and writes it when a command changed: that row
stands for all commands of its machine, also for those that are yet to come.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from pipeline.errors import MachineNotFound, PowerRefused
from pipeline.processor import power
from pipeline.processor.operators import cancel_power_cycle
from pipeline.store import power_entries, power_fold, writing
from pipeline.store import power_queries as queries
from pipeline.store.cursor import check_limit
from pipeline.store.edits import Edit, check_expected
from pipeline.store.literals import text_array
from pipeline.store.messages import change_message, command_message
from pipeline.store.power_entries import Entry
from pipeline.store.power_fold import Outcome
from pipeline.store.power_protocol import Ordered
from pipeline.store.power_rows import (
    entry_from,
    lock_entries,
    lock_outlets,
    log_claims,
    log_given_up,
    log_strangers,
    outlet_from,
    write_entries,
    write_outcome,
)
from pipeline.store.protocol import LABKEEPER_USER, Change, Updated
from pipeline.store.sql_rows import SqlRows
from pipeline.store.transaction import Session, Work
from pipeline.store.writing import Order
from schemas.description import Description
from schemas.ids import is_machine_id
from schemas.power import PowerCommand, PowerOutlet, PowerRecord, PowerResult, PowerStep

T = TypeVar("T")

_MACHINES_AT_ONCE: Final = 200
"""Machines whose overdue commands are ended in one transaction."""
_COMMANDS_AT_ONCE: Final = 1000
"""Commands dropped in one statement."""


class SqlPower(SqlRows):
    """`power_protocol.PowerStore` on a database."""

    async def order_power(
        self,
        command: PowerCommand,
        *,
        now: datetime,
        idempotency_key: str = "",
        versions: Collection[int] | None = None,
    ) -> Ordered:
        """See the protocol."""
        machine_id = command.machine_id

        def work(session: Session) -> tuple[tuple[Ordered, Outcome], list[Edit]]:
            machine = self._locked_machine(session, machine_id)
            entries = lock_entries(
                session, [machine_id], command_ids=[command.id], idempotency_key=idempotency_key
            )
            own = [each for each in entries if each.machine_id == machine_id]
            late = power_fold.make_way(own, now=now)
            known = power_entries.standing(power_fold.as_of(own, late), command, idempotency_key)
            if known is None:
                check_expected(machine_id, machine.row_version, versions)
                refusal = power.refusal(machine, command)
                if refusal is not None:
                    raise PowerRefused(*refusal)
            edits = self._write_outcome(session, late, {machine_id: machine}, now, is_told=True)
            machine = edits[-1].after if edits else machine
            if known is not None:
                return (Ordered(known.record, machine, is_new=False), late), edits
            outlet = lock_outlets(session, [machine_id]).get(machine_id)
            wanted = power_entries.addressed(command, outlet)
            entry = power_entries.queued(wanted, now=now, idempotency_key=idempotency_key)
            change = partial(power.ordered, command=wanted, now=now)
            order = Order({machine_id: [change]}, now, command.who, command.why)
            edits += self._change(session, order, machine, entry)
            return (Ordered(entry.record, edits[-1].after, is_new=True), late), edits

        answer, late = await self._remembering(work)
        log_given_up(late.records)
        return answer

    async def cancel_power(
        self,
        machine_id: str,
        *,
        now: datetime,
        who: str,
        why: str = "",
        versions: Collection[int] | None = None,
    ) -> Ordered | None:
        """See the protocol."""

        def work(session: Session) -> tuple[Ordered | None, list[Edit]]:
            machine = self._locked_machine(session, machine_id)
            check_expected(machine_id, machine.row_version, versions)
            entries = lock_entries(session, [machine_id])
            entry = power_entries.to_withdraw(entries)
            if entry is None:
                lowered = partial(cancel_power_cycle, machine_id=machine_id, user=who, now=now)
                return None, self._change(session, Order({machine_id: [lowered]}, now, who), machine, None)
            withdrawn, changes = power_entries.withdrawal(entry, entries, now=now, who=who, why=why)
            edits = self._change(session, Order({machine_id: changes}, now, who, why), machine, withdrawn)
            return Ordered(withdrawn.record, edits[0].after, is_new=False), edits

        return await self._remembering(work)

    async def _remembering(self, work: Work[tuple[T, list[Edit]]]) -> T:
        """Carry out, and remember the machines that were committed."""
        answer, edits = await self._database.on_a_thread(lambda: self._transact(work))
        self._remember(edits)
        return answer

    def _locked_machine(self, session: Session, machine_id: str) -> Description:
        machine = self._locked(session, [machine_id]).get(machine_id) if is_machine_id(machine_id) else None
        if machine is None:
            raise MachineNotFound(machine_id)
        return machine

    def _change(
        self, session: Session, order: Order, machine: Description, entry: Entry | None
    ) -> list[Edit]:
        """Write a machine and its command, if there is one, and tell of both."""
        (machine_id,) = order.changes
        edits = self._carry_out(session, order, {machine_id: machine})
        _announce(session, edits, order)
        if entry is not None:
            write_entries(session, [entry])
            writing.announce(
                session, command_message(entry.record.command), edits[0].after.row_version, order.now
            )
        return edits

    async def apply_power(
        self, results: Sequence[PowerResult], *, now: datetime, announce: bool = False
    ) -> Sequence[Updated]:
        """See the protocol."""
        machine_ids = sorted({each.machine_id for each in results})
        command_ids = [each.command_id for each in results if isinstance(each, PowerStep)]
        reported = sorted({each.machine_id for each in results if not isinstance(each, PowerStep)})

        def work(session: Session) -> tuple[tuple[Outcome, Sequence[Updated]], list[Edit]]:
            machines = self._locked(session, machine_ids)
            entries = lock_entries(session, machine_ids, command_ids=command_ids) if command_ids else []
            outcome = power_fold.fold(results, entries, lock_outlets(session, reported), now=now)
            edits = self._write_outcome(session, outcome, machines, now, is_told=announce)
            return (outcome, power_fold.told(outcome, edits, machines)), edits

        if not results:
            return []
        outcome, updated = await self._remembering(work)
        log_strangers(outcome.strangers)
        log_claims(outcome.claims)
        return updated

    def _write_outcome(
        self,
        session: Session,
        outcome: Outcome,
        machines: Mapping[str, Description],
        now: datetime,
        *,
        is_told: bool,
    ) -> list[Edit]:
        """Write all that came of it; return the edits that changed something."""
        write_outcome(session, outcome)
        edits: list[Edit] = []
        for why, changes in _by_reason(outcome, machines).items():
            order = Order(changes, now, LABKEEPER_USER, why)
            changed = [each for each in self._carry_out(session, order, machines) if each.kinds]
            if is_told:
                _announce(session, changed, order)
            edits.extend(changed)
        written = {each.machine_id for each in edits}
        untouched = [each for each in outcome.machine_ids if each in machines and each not in written]
        if untouched:
            session.execute(queries.TOUCH_MACHINES, (text_array(untouched),))
        return edits

    async def expire_power(
        self, *, now: datetime, grace: timedelta, stalled: timedelta
    ) -> Sequence[PowerRecord]:
        """See the protocol."""
        ended: list[PowerRecord] = []
        while True:
            parameters = (now - grace, now - stalled, _MACHINES_AT_ONCE)
            rows = await self._database.read(
                lambda session: session.fetch(queries.OVERDUE_COMMANDS, parameters)  # noqa: B023  # called at once
            )
            machine_ids = sorted({machine_id for (machine_id,) in rows})
            more = await self._give_up(machine_ids, now, grace, stalled) if machine_ids else []
            log_given_up(more)
            ended.extend(more)
            if len(rows) < _MACHINES_AT_ONCE or not more:
                return ended

    async def _give_up(
        self, machine_ids: Sequence[str], now: datetime, grace: timedelta, stalled: timedelta
    ) -> Sequence[PowerRecord]:
        """Look again, now with the rows locked, and end what nobody ends."""

        def work(session: Session) -> tuple[Sequence[PowerRecord], list[Edit]]:
            machines = self._locked(session, machine_ids)
            entries = lock_entries(session, machine_ids)
            outcome = power_fold.give_up(entries, now=now, grace=grace, stalled=stalled)
            return outcome.records, self._write_outcome(session, outcome, machines, now, is_told=True)

        return await self._remembering(work)

    async def power_command(self, command_id: str) -> PowerRecord | None:
        """See the protocol."""
        rows = await self._database.read(lambda session: session.fetch(queries.READ_COMMAND, (command_id,)))
        return entry_from(rows[0]).record if rows else None

    async def power_commands(
        self,
        *,
        machine_id: str | None = None,
        pending: bool | None = None,
        since: datetime | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> Sequence[PowerRecord]:
        """See the protocol."""
        check_limit(limit)
        conditions = (machine_id, machine_id, pending, pending, since, since, before, before)
        rows = await self._database.read(
            lambda session: session.fetch(queries.READ_COMMANDS, (*conditions, limit))
        )
        return [entry_from(row).record for row in rows]

    async def power_outlets(self, machine_ids: Collection[str] | None = None) -> Sequence[PowerOutlet]:
        """See the protocol."""
        if machine_ids is None:
            rows = await self._database.read(lambda session: session.fetch(queries.READ_ALL_OUTLETS))
        else:
            wanted = text_array(machine_ids)
            rows = await self._database.read(lambda session: session.fetch(queries.READ_OUTLETS, (wanted,)))
        return [outlet_from(row) for row in rows]

    async def forget_power(self, *, before: datetime) -> int:
        """See the protocol."""
        parameters = (before, _COMMANDS_AT_ONCE)
        forgotten = 0
        while True:
            dropped = await self._database.read(
                lambda session: session.execute(queries.FORGET_COMMANDS, parameters)
            )
            forgotten += dropped
            if dropped < _COMMANDS_AT_ONCE:
                return forgotten


def _announce(session: Session, edits: Sequence[Edit], order: Order) -> None:
    for each in edits:
        if each.kinds:
            message = change_message(each.updated, order.who)
            writing.announce(session, message, each.after.row_version, order.now)


def _by_reason(
    outcome: Outcome, machines: Mapping[str, Description]
) -> dict[str, dict[str, Sequence[Change]]]:
    """The changes to machines that there are, by what the history says of them."""
    found: dict[str, dict[str, Sequence[Change]]] = {}
    for machine_id, changes in outcome.changes.items():
        if machine_id in machines:
            found.setdefault(outcome.why(machine_id), {})[machine_id] = changes
    return found
