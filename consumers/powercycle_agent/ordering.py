"""`powercycle` while the lab is there: each cycle is ordered at the façade, and watched until it has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from consumers.powercycle_agent.http_control import FacadeUnavailable
from consumers.powercycle_agent.lab_client import Lab, LabRefused, NotInLab
from consumers.powercycle_agent.old_messages import say, say_step
from schemas.api import PowerBody
from schemas.ids import new_ulid
from schemas.power import PowerAction, PowerMoment, PowerRecord, PowerStatus

_LOOK_EVERY_S: Final = 0.25
_AT_ONCE: Final = 8
_ORDER_PAUSES_S: Final = (0.2, 0.8)
_LONGEST_S: Final = 900.0
"""For one cycle: an agent may take ten minutes to begin, and then has to do it."""
_IMPATIENT_S: Final = 15.0

Problem = str
"""Why a device was not cycled; empty: it was."""


@dataclass(slots=True)
class Orders:
    """Cycles at one façade."""

    lab: Lab
    wish: PowerBody
    longest_s: float = _LONGEST_S
    strangers: set[str] = field(default_factory=set)
    """Those of which the lab has no machine; `cycle` fills it."""

    async def cycle(self, ids: Sequence[str]) -> dict[str, Problem]:
        """Cycle them all, whatever becomes of each; what went wrong, by id."""
        turns = asyncio.Semaphore(_AT_ONCE)
        problems = await asyncio.gather(*(self._one(each, turns) for each in ids))
        return dict(zip(ids, problems, strict=True))

    async def _one(self, machine_id: str, turns: asyncio.Semaphore) -> Problem:
        try:
            async with turns:
                record = await self._place(machine_id)
            if record.command.action is not PowerAction.CYCLE:
                return f"{record.command.action} of {record.command.who} is pending: wait for its end, or cancel it"
            for moment in record.steps:
                _tell(machine_id, moment)
            return await self._watch(machine_id, record)
        except FacadeUnavailable as error:
            return (
                f"{error}; it may have been queued all the same, see `labkeeper power get {machine_id}`; "
                "--direct drives the switch from here"
            )
        except NotInLab as error:
            self.strangers.add(machine_id)
            return str(error)
        except LabRefused as error:
            return str(error)

    async def _place(self, machine_id: str) -> PowerRecord:
        """Once more after a break, with the same key: it is queued once."""
        key = new_ulid()
        for pause_s in _ORDER_PAUSES_S:
            with suppress(FacadeUnavailable):
                return await self.lab.order(machine_id, self.wish, key=key)
            await asyncio.sleep(pause_s)
        return await self.lab.order(machine_id, self.wish, key=key)

    async def _watch(self, machine_id: str, record: PowerRecord) -> Problem:
        began = time.monotonic()
        has_hinted = False
        while record.status.is_pending:
            waited = time.monotonic() - began
            if waited > self.longest_s:
                return f"it had not ended after {self.longest_s:g} s, and will go on: see `labkeeper power history`"
            if record.status is PowerStatus.QUEUED and waited > _IMPATIENT_S and not has_hinted:
                say(f"{machine_id}: no agent has begun yet; --direct drives the switch from here")
                has_hinted = True
            await asyncio.sleep(_LOOK_EVERY_S)
            record = await self._look(machine_id, record)
        return "" if record.status is PowerStatus.DONE else record.text or record.status.value

    async def _look(self, machine_id: str, before: PowerRecord) -> PowerRecord:
        try:
            record = await self.lab.command(before.command.id)
        except FacadeUnavailable:  # it goes on without us, and the lab may be back before our time is up
            return before
        for moment in record.steps[len(before.steps) :]:
            _tell(machine_id, moment)
        return record


def _tell(machine_id: str, moment: PowerMoment) -> None:
    say_step(machine_id, moment.status, moment.text)
