"""Power commands, outlets and silences of the store in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial

from pipeline.clock import Clock
from pipeline.errors import MachineNotFound, PowerRefused
from pipeline.processor import power
from pipeline.processor.operators import cancel_power_cycle
from pipeline.processor.pools import Pools
from pipeline.store import power_entries, power_fold
from pipeline.store.cursor import check_limit
from pipeline.store.edits import Edit, check_expected
from pipeline.store.memory_rows import MemoryRows, check_storable, check_text
from pipeline.store.messages import change_message, command_message
from pipeline.store.power_entries import Entry
from pipeline.store.power_fold import fold
from pipeline.store.power_protocol import SILENCES_KEPT, Ordered
from pipeline.store.power_rows import log_claims, log_given_up, log_strangers
from pipeline.store.protocol import LABKEEPER_USER, Change, Updated
from schemas.description import Description
from schemas.power import PowerCommand, PowerOutlet, PowerRecord, PowerResult
from schemas.silence import Silence


class MemoryPower(MemoryRows):
    """`power_protocol.PowerStore`."""

    def __init__(self, pools: Pools, clock: Clock) -> None:
        super().__init__(pools, clock)
        self._entries: dict[str, Entry] = {}

    async def order_power(
        self,
        command: PowerCommand,
        *,
        now: datetime,
        idempotency_key: str = "",
        versions: Collection[int] | None = None,
    ) -> Ordered:
        """See the protocol."""
        machine = self._machine(command.machine_id)
        check_text(idempotency_key)
        entries = self._entries_of(command.machine_id)
        late = power_fold.make_way(entries, now=now)
        known = power_entries.standing(power_fold.as_of(entries, late), command, idempotency_key)
        if known is not None:
            self._carry_out(late, now, announce=True)
            log_given_up(late.records)
            return Ordered(known.record, self._machines[command.machine_id], is_new=False)
        check_expected(command.machine_id, machine.row_version, versions)
        refusal = power.refusal(machine, command)
        if refusal is not None:
            raise PowerRefused(*refusal)
        wanted = power_entries.addressed(command, self._outlets.get(command.machine_id))
        entry = power_entries.queued(wanted, now=now, idempotency_key=idempotency_key)
        check_storable(entry.record)
        self._carry_out(late, now, announce=True)
        log_given_up(late.records)
        change = partial(power.ordered, command=wanted, now=now)
        after = self._change(entry, [change], now, command.who, command.why)
        return Ordered(entry.record, after, is_new=True)

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
        machine = self._machine(machine_id)
        check_expected(machine_id, machine.row_version, versions)
        entries = self._entries_of(machine_id)
        entry = power_entries.to_withdraw(entries)
        if entry is None:
            change = partial(cancel_power_cycle, machine_id=machine_id, user=who, now=now)
            self._change(None, [change], now, who, "", machine_id=machine_id)
            return None
        withdrawn, changes = power_entries.withdrawal(entry, entries, now=now, who=who, why=why)
        after = self._change(withdrawn, changes, now, who, why)
        return Ordered(withdrawn.record, after, is_new=False)

    def _machine(self, machine_id: str) -> Description:
        if machine_id not in self._machines:
            raise MachineNotFound(machine_id)
        return self._machines[machine_id]

    def _entries_of(self, machine_id: str) -> list[Entry]:
        return [each for each in self._entries.values() if each.machine_id == machine_id]

    def _change(
        self,
        entry: Entry | None,
        changes: Sequence[Change],
        now: datetime,
        who: str,
        why: str,
        *,
        machine_id: str = "",
    ) -> Description:
        """Write a command, if there is one, and what it does to its machine, and tell of both."""
        if entry is not None:
            check_storable(entry.record)
        (edited,) = self._edits({entry.machine_id if entry else machine_id: changes}, now)
        self._write([edited], now, who, why)
        if edited.kinds:
            self._announce(change_message(edited.updated, who), edited.after.row_version, now)
        if entry is not None:
            self._entries[entry.id] = entry
            self._announce(command_message(entry.record.command), edited.after.row_version, now)
        return edited.after

    def _withdraw_of_deleted(self, machine_id: str, version: int, now: datetime, who: str) -> None:
        """End what nobody has begun for a machine that is no more."""
        for each in power_entries.queued_ones(self._entries_of(machine_id)):
            entry = power_entries.withdrawn(each, now=now, text=f"{who} deleted the machine")
            self._entries[entry.id] = entry
            self._announce(command_message(entry.record.command), version, now)

    async def apply_power(
        self, results: Sequence[PowerResult], *, now: datetime, announce: bool = False
    ) -> Sequence[Updated]:
        """See the protocol."""
        outcome = fold(results, self._entries.values(), self._outlets, now=now)
        edits = self._carry_out(outcome, now, announce=announce)
        log_strangers(outcome.strangers)
        log_claims(outcome.claims)
        return power_fold.told(outcome, edits, self._machines)

    def _carry_out(self, outcome: power_fold.Outcome, now: datetime, *, announce: bool) -> list[Edit]:
        for entry in outcome.entries.values():
            check_storable(entry.record)
        for outlet in outcome.outlets.values():
            check_storable(outlet)
        changes = {each: steps for each, steps in outcome.changes.items() if each in self._machines}
        edits = [each for each in self._edits(changes, now) if each.kinds]
        self._entries.update(outcome.entries)
        self._outlets.update(outcome.outlets)
        for each in edits:
            self._write([each], now, LABKEEPER_USER, outcome.why(each.machine_id))
            if announce:
                message = change_message(each.updated, LABKEEPER_USER)
                self._announce(message, each.after.row_version, now)
        return edits

    async def expire_power(
        self, *, now: datetime, grace: timedelta, stalled: timedelta
    ) -> Sequence[PowerRecord]:
        """See the protocol."""
        outcome = power_fold.give_up(self._entries.values(), now=now, grace=grace, stalled=stalled)
        self._carry_out(outcome, now, announce=True)
        log_given_up(outcome.records)
        return outcome.records

    async def power_command(self, command_id: str) -> PowerRecord | None:
        """See the protocol."""
        entry = self._entries.get(command_id)
        return None if entry is None else entry.record

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
        return [
            entry.record
            for command_id, entry in sorted(self._entries.items(), reverse=True)
            if (machine_id is None or entry.machine_id == machine_id)
            and (pending is None or entry.is_pending == pending)
            and (since is None or entry.record.command.requested_at >= since)
            and (before is None or command_id < before)
        ][:limit]

    async def power_outlets(self, machine_ids: Collection[str] | None = None) -> Sequence[PowerOutlet]:
        """See the protocol."""
        return [
            outlet
            for machine_id, outlet in sorted(self._outlets.items())
            if machine_ids is None or machine_id in machine_ids
        ]

    async def forget_power(self, *, before: datetime) -> int:
        """See the protocol."""
        old = [
            command_id
            for command_id, entry in self._entries.items()
            if not entry.is_pending and entry.record.command.requested_at < before
        ]
        for command_id in old:
            del self._entries[command_id]
        return len(old)


class MemorySilences(MemoryRows):
    """`power_protocol.Silences`."""

    def __init__(self, pools: Pools, clock: Clock) -> None:
        super().__init__(pools, clock)
        self._silences: dict[str, Silence] = {}

    async def add_silence(self, silence: Silence) -> None:
        """See the protocol."""
        check_storable(silence)
        self._silences[silence.id] = silence

    async def end_silence(self, silence_id: str, *, now: datetime) -> bool:
        """See the protocol."""
        silence = self._silences.get(silence_id)
        if silence is None or silence.ends_at <= now:
            return False
        self._silences[silence_id] = silence.model_copy(update={"ends_at": now})
        return True

    async def silences(self, *, now: datetime | None = None) -> Sequence[Silence]:
        """See the protocol."""
        since = self._clock.now() - SILENCES_KEPT if now is None else now
        return [each for _, each in sorted(self._silences.items()) if each.ends_at > since]
