"""What people, agents and old clients do to machines: one transaction each, and then a line for the audit.

Old and new routes act through these functions, so they mean the same.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

from consumers.facade.audit import audited
from consumers.facade.errors import invalid
from consumers.facade.fleet import Fleet, Snapshot
from consumers.facade.tokens import Caller
from pipeline.clock import Clock
from pipeline.errors import MachineNotFound
from pipeline.processor import operators
from pipeline.processor.ssh_target import is_ssh_target
from pipeline.store.edits import check_expected
from pipeline.store.protocol import Change, Store
from schemas.description import AttachedDevice, Description, PowerCycleState
from schemas.wire import Dimensions


class Actions:
    """Changes on somebody's behalf. All raise `MachineNotFound` and `StoreUnavailable`."""

    def __init__(
        self, store: Store, fleet: Fleet, clock: Clock, versions: Collection[int] | None = None
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._clock = clock
        self._versions = versions

    def on_versions(self, versions: Collection[int] | None) -> Actions:
        """The same on machines in one of these versions only: they raise `VersionMismatch` as well. None: in any."""
        return Actions(self._store, self._fleet, self._clock, versions)

    async def toggle_mode(self, caller: Caller, machine_id: str) -> Description:
        """Begin or end maintenance."""
        change = partial(operators.toggle_mode, user=caller.user, now=self._clock.now())
        return await self._change("toggle-mode", caller, machine_id, change)

    async def set_maintenance(self, caller: Caller, machine_id: str, *, reason: str) -> Description:
        """Begin maintenance; one that is in maintenance stays so."""
        change = partial(operators.set_maintenance, user=caller.user, now=self._clock.now(), reason=reason)
        return await self._change("set-maintenance", caller, machine_id, change, why=reason, reason=reason)

    async def clear_maintenance(self, caller: Caller, machine_id: str) -> Description:
        """End maintenance."""
        change = partial(operators.clear_maintenance, user=caller.user, now=self._clock.now())
        return await self._change("clear-maintenance", caller, machine_id, change)

    async def clear_quarantine(self, caller: Caller, machine_id: str) -> Description:
        """End a forced quarantine."""
        return await self._change("clear-quarantine", caller, machine_id, operators.clear_quarantine)

    async def set_power_cycle_state(
        self, caller: Caller, machine_id: str, state: PowerCycleState
    ) -> Description:
        """Take note of whether some power controller can cycle the machine."""
        change = partial(operators.set_power_cycle_state, state=state)
        return await self._change("powercycle-update", caller, machine_id, change, state=state.value)

    async def set_attached_device(
        self, caller: Caller, machine_id: str, device: AttachedDevice
    ) -> Description:
        """Tell the monitor what to interrogate."""
        change = partial(operators.set_attached_device, device=device)
        return await self._change("set-attached-device", caller, machine_id, change, device=device.value)

    async def remove_device(self, caller: Caller, machine_id: str) -> Description:
        """Forget all that is known of the attached device."""
        change = partial(
            operators.remove_device, machine_id=machine_id, user=caller.user, now=self._clock.now()
        )
        return await self._change("remove-device", caller, machine_id, change)

    async def set_note(self, caller: Caller, machine_id: str, message: str) -> Description:
        """Leave a note; an empty one takes it away."""
        change = partial(operators.set_note, message=message, user=caller.user, now=self._clock.now())
        return await self._change("set-note", caller, machine_id, change, message=message)

    async def clear_note(self, caller: Caller, machine_id: str) -> Description:
        """Take the note away."""
        return await self.set_note(caller, machine_id, "")

    async def supply_chromeos(
        self, caller: Caller, machine_id: str, *, ssh_user_ip: str, dimensions: Dimensions
    ) -> Description:
        """Say where a ChromeOS device is, and what it cannot tell of itself."""
        if not is_ssh_target(ssh_user_ip):
            raise invalid("ssh_user_ip", "expected host or user@host, starting with a letter or digit")
        change = partial(
            operators.supply_chromeos, ssh_user_ip=ssh_user_ip, dimensions=dimensions, now=self._clock.now()
        )
        return await self._change(
            "supply-dimensions",
            caller,
            machine_id,
            change,
            ssh_user_ip=ssh_user_ip,
            dimensions=dimensions,
        )

    async def delete(self, caller: Caller, machine_id: str) -> None:
        """Delete a machine; its history stays."""
        with audited("delete-machine", caller, machine=machine_id):
            if not await self._store.delete(
                machine_id, now=self._clock.now(), who=caller.user, versions=self._versions
            ):
                raise MachineNotFound(machine_id)

    async def _change(
        self, action: str, caller: Caller, machine_id: str, change: Change, why: str = "", **details: Any
    ) -> Description:
        def expected(before: Description) -> Description:
            check_expected(machine_id, before.row_version, self._versions)
            return change(before)

        with audited(action, caller, machine=machine_id, **details):
            updated = await self._store.update(
                machine_id, expected, now=self._clock.now(), who=caller.user, why=why
            )
        self._fleet.take([Snapshot.of(machine_id, updated.after)])
        return updated.after
