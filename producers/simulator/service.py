"""Lets the machines of a simulated lab live, and sends what their monitors report, evenly spread over time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from random import Random
from typing import Final

from pipeline import logs
from pipeline.clock import Clock
from pipeline.service import Abandoned, persist, wait_for
from producers.simulator.catalogue import Machine
from producers.simulator.destinations import Destination
from producers.simulator.life import (
    Life,
    Nature,
    born,
    lived,
    nature_of,
    reported,
    switched_off,
    switched_on,
)
from producers.simulator.reports import report
from producers.simulator.settings import SimulatorSettings

ROLL_CALL_S: Final = 3.0
"""All machines report within this time first, so that a demonstration need not wait for a whole period."""
_SHORTEST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 1.0


@dataclass(slots=True)
class _Inhabitant:
    machine: Machine
    nature: Nature
    chance: Random
    life: Life


class Simulator:
    """A lab of machines that are not there."""

    def __init__(
        self, lab: tuple[Machine, ...], destination: Destination, clock: Clock, settings: SimulatorSettings
    ) -> None:
        self._lab = lab
        self._destination = destination
        self._clock = clock
        self._settings = settings
        self._machines = {machine.id: machine for machine in lab}
        self._inhabitants: dict[str, _Inhabitant] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Report until `stop` is set."""
        logs.get_logger().info("lab_simulated", machines=len(self._lab))
        pause_s = self._pause_s()
        began, turn = time.monotonic(), 0
        while not stop.is_set():
            due = turns_due(
                time.monotonic() - began, len(self._lab), period_s=self._settings.period.total_seconds()
            )
            turn = max(
                turn, due - len(self._lab)
            )  # after a hold-up every machine reports once, not many times
            turns, turn = range(turn, due), due
            try:
                await self._report(
                    [self._inhabitant(self._lab[each % len(self._lab)]) for each in turns], stop
                )
            except Abandoned:
                return
            await wait_for(stop, pause_s)

    def _pause_s(self) -> float:
        apart_s = self._settings.period.total_seconds() / len(self._lab)
        return min(max(apart_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)

    def _inhabitant(self, machine: Machine) -> _Inhabitant:
        """Born when it is first looked at: a large lab need not be complete before it speaks."""
        one = self._inhabitants.get(machine.id)
        if one is None:
            one = self._inhabitants[machine.id] = self._born(machine)
        return one

    def _born(self, machine: Machine) -> _Inhabitant:
        chance = Random(f"{self._settings.seed} {machine.id}")  # noqa: S311  # a toy, not a secret
        life = born(machine, now=self._clock.now(), chance=chance)
        return _Inhabitant(machine, nature_of(machine), chance, life)

    def has_power(self, machine_id: str) -> bool:
        """Whether the machine is on; all are until somebody switches them off."""
        one = self._inhabitants.get(machine_id)
        return one is None or one.life.powered

    def switch(self, machine_id: str, *, on: bool) -> None:
        """Turn a machine on or off."""
        one = self._inhabitant(self._machines[machine_id])
        one.life = lived(one.life, one.nature, now=self._clock.now(), chance=one.chance)
        one.life = switched_on(one.life, one.chance) if on else switched_off(one.life)

    async def _report(self, inhabitants: list[_Inhabitant], stop: asyncio.Event) -> None:
        events: list[tuple[str, bytes]] = []
        for one in inhabitants:
            one.life = lived(one.life, one.nature, now=self._clock.now(), chance=one.chance)
            if not one.life.silent:
                events.append((one.machine.id, report(one.machine, one.life).model_dump_json().encode()))
                one.life = reported(one.life)
        if events:
            await persist(lambda: self._destination.send(events), "events_not_sent", stop)


def turns_due(elapsed_s: float, machines: int, *, period_s: float) -> int:
    """How many reports should have been made by all machines together, one after the other."""
    roll_call_s = min(ROLL_CALL_S, period_s)
    if elapsed_s < roll_call_s:
        return int(machines * elapsed_s / roll_call_s)
    return machines + int(machines * (elapsed_s - roll_call_s) / period_s)
