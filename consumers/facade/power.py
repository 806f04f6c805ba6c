"""What people, agents and old clients do with machines' power: commands, what became of them, and a line for the audit.

Old and new routes act through this, on the same rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Final, Protocol

from consumers.facade.audit import LONGEST_LOGGED, audited
from consumers.facade.fleet import Fleet, Snapshot
from consumers.facade.tokens import Caller
from pipeline import logs
from pipeline.clock import Clock
from pipeline.errors import MachineNotFound
from pipeline.processor import operators
from pipeline.store.power_pages import every_command
from pipeline.store.power_protocol import Ordered, PowerStore
from pipeline.store.protocol import Store
from schemas.api import DEVICE_SUFFIX, POWER_EXPIRY_S, PowerBody
from schemas.description import PowerCycleState
from schemas.ids import is_machine_id, new_ulid
from schemas.power import (
    PowerAction,
    PowerCommand,
    PowerRecord,
    PowerResult,
    PowerStatus,
    PowerStep,
    older_agents_report,
)

_REPORTS_AT_ONCE: Final = 1000

log = logs.get_logger()


class PoweredStore(Store, PowerStore, Protocol):
    """Machines, and the commands for their power."""


class PowerActions:
    """Commands on somebody's behalf. All raise `StoreUnavailable`, and what names a machine `MachineNotFound`."""

    def __init__(self, store: PoweredStore, fleet: Fleet, clock: Clock) -> None:
        self._store = store
        self._fleet = fleet
        self._clock = clock

    async def order(
        self,
        caller: Caller,
        machine_id: str,
        wish: PowerBody,
        *,
        idempotency_key: str = "",
        versions: Collection[int] | None = None,
    ) -> Ordered:
        """Queue a command, or return the one that there is. Raises `PowerRefused`, `KeyReused` and, with `versions`, `VersionMismatch`."""
        now = self._clock.now()
        command = PowerCommand(
            id=new_ulid(),
            machine_id=machine_id,
            action=wish.action,
            delay_s=wish.delay_s,
            who=caller.user,
            why=wish.why,
            requested_at=now,
            expires_at=now + timedelta(seconds=wish.expires_in_s),
            force=wish.force,
        )
        with audited(
            f"power-{wish.action}", caller, machine=machine_id, force=wish.force, command=command.id
        ):
            ordered = await self._store.order_power(
                command,
                now=now,
                idempotency_key=idempotency_key,
                versions=versions,
            )
        self._show(machine_id, ordered)
        return ordered

    async def cancel(
        self, caller: Caller, machine_id: str, *, versions: Collection[int] | None = None
    ) -> PowerRecord | None:
        """Withdraw the command that nobody has begun; None: there was none. Raises `PowerRefused` when one has begun."""
        with audited("power-cancel", caller, machine=machine_id):
            ordered = await self._store.cancel_power(
                machine_id, now=self._clock.now(), who=caller.user, versions=versions
            )
        if ordered is None:
            machine = await self._store.get(machine_id)  # a flag may have been taken down
            self._fleet.take([Snapshot.of(machine_id, machine)])
            return None
        self._show(machine_id, ordered)
        return ordered.record

    async def toggle(self, caller: Caller, machine_id: str) -> None:
        """Ask for a power cycle, or withdraw the wish, as the old page did."""
        machine = await self._store.get(machine_id)
        if machine.power_cycle or await self._pending(machine_id) is not None:
            await self.cancel(caller, machine_id)
        else:
            await self.order(caller, machine_id, PowerBody(action=PowerAction.CYCLE))

    async def complete(self, caller: Caller, machine_id: str) -> None:
        """Take note that an old agent has cycled the power."""
        now = self._clock.now()
        with audited("powercycle-complete", caller, machine=machine_id):
            pending = await self._pending(machine_id)
            if pending is not None and pending.command.action is PowerAction.CYCLE:
                await self._apply([_done(caller, pending.command, now)], now)
            updated = await self._store.update(
                machine_id, operators.complete_power_cycle, now=now, who=caller.user
            )
        self._fleet.take([Snapshot.of(machine_id, updated.after)])

    async def wanted_cycles(self) -> Sequence[str]:
        """Ids of machines that an old agent is to cycle: what has expired, or another agent has begun, is left out."""
        wanted = await self._store.list_powercycle()
        now = self._clock.now()
        settled = {
            each.command.machine_id
            async for each in every_command(self._store, pending=True)
            if each.status is not PowerStatus.QUEUED or each.command.expires_at <= now
        }
        return [machine_id for machine_id in wanted if machine_id not in settled]

    async def note_cycled(self, caller: Caller, bot_ids: Sequence[str]) -> None:
        """Take note, all at once, that somebody has driven switches past us. Machines that nobody knows are only logged."""
        now = self._clock.now()
        with ExitStack() as audits:
            known: dict[str, PowerStep] = {}
            for bot_id in dict.fromkeys(bot_ids):
                audits.enter_context(audited("powercycled-bot", caller, machine=bot_id[:LONGEST_LOGGED]))
                machine_id = await self._machine_of(bot_id)
                if machine_id is None:
                    log.info("unknown_machine_skipped", machine=bot_id[:LONGEST_LOGGED])
                else:
                    known[machine_id] = _done(caller, _driven(caller, machine_id, now), now)
            await self._apply(list(known.values()), now)

    async def note_older_agents(self, caller: Caller, states: Mapping[str, PowerCycleState]) -> None:
        """Remember, by machine, what an old agent says that it has: also of machines that are yet to appear."""
        now = self._clock.now()
        reports = [
            older_agents_report(machine_id, state, agent=caller.user, at=now)
            for machine_id, state in states.items()
        ]
        for page in range(0, len(reports), _REPORTS_AT_ONCE):
            await self._apply(reports[page : page + _REPORTS_AT_ONCE], now)

    async def _machine_of(self, bot_id: str) -> str | None:
        for machine_id in (bot_id, bot_id.removesuffix(DEVICE_SUFFIX)):
            if is_machine_id(machine_id) and await self._exists(machine_id):
                return machine_id
        return None

    async def _exists(self, machine_id: str) -> bool:
        try:
            await self._store.get(machine_id)
        except MachineNotFound:
            return False
        return True

    async def _pending(self, machine_id: str) -> PowerRecord | None:
        found = await self._store.power_commands(machine_id=machine_id, pending=True, limit=1)
        return found[0] if found else None

    async def _apply(self, results: Sequence[PowerResult], now: datetime) -> None:
        changed = await self._store.apply_power(results, now=now, announce=True)
        self._fleet.take([Snapshot.of(each.machine_id, each.after) for each in changed])

    def _show(self, machine_id: str, ordered: Ordered) -> None:
        self._fleet.take([Snapshot.of(machine_id, ordered.machine)])


def _done(caller: Caller, command: PowerCommand, now: datetime) -> PowerStep:
    return PowerStep(
        command_id=command.id,
        machine_id=command.machine_id,
        status=PowerStatus.DONE,
        at=now,
        agent=caller.user,
        text="as an old client says",
        command=command,
    )


def _driven(caller: Caller, machine_id: str, now: datetime) -> PowerCommand:
    """What somebody must have wished who has cycled the power already."""
    return PowerCommand(
        id=new_ulid(),
        machine_id=machine_id,
        action=PowerAction.CYCLE,
        who=caller.user,
        why="reported afterwards",
        requested_at=now,
        expires_at=now + timedelta(seconds=POWER_EXPIRY_S),
    )
