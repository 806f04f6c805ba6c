"""The life of a simulated machine, step by step. Pure: given the same chance, it always takes the same course."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Final

from producers.simulator.catalogue import AppleDevice, Board, Computer, Machine, Phone
from schemas.wire import to_milliseconds

_HOUR: Final = 3600.0
_LONGEST_STEP_S: Final = 60.0
_ROOM_CELSIUS: Final = 24.0
_WARMING_S: Final = 240.0  # time constant of a phone
_START_PERCENT: Final = 35.0  # schedulers leave a phone alone below about this …
_START_CELSIUS: Final = 34.0  # … and above this


@dataclass(frozen=True, slots=True)
class Nature:
    """How a machine behaves. Rates are per hour, of machine time."""

    has_battery: bool
    drain: float
    """Percent per hour under a task."""
    charge: float
    """Percent per hour when idle."""
    working_celsius: float
    """Where a task takes the temperature to, in the end."""
    tasks: float = 4.0
    losses: float = 1 / 8
    """How often the device vanishes from its host."""
    silences: float = 1 / 16
    """How often the host goes silent."""
    quarantine: float = 1 / 500
    """Chance that a task which ends asks for the machine to be taken out of service."""


def nature_of(machine: Machine) -> Nature:
    """How this machine behaves."""
    has_battery = isinstance(machine.device, Phone | AppleDevice)
    vanishes = not isinstance(machine.device, Computer)
    return Nature(
        has_battery=has_battery,
        drain=160.0 if machine.weak_battery else 70.0,
        charge=35.0 if machine.weak_battery else 60.0,
        working_celsius=39.5 if machine.runs_hot else 32.0,
        tasks=1.0 if isinstance(machine.device, Board) else 4.0,
        losses=1 / 8 if vanishes else 0.0,
    )


@dataclass(frozen=True, slots=True)
class Life:
    """The state of one machine at one moment."""

    at: datetime
    monitor_start: datetime
    device_boot: datetime
    battery: float = 90.0
    """Percent."""
    celsius: float = _ROOM_CELSIUS + 3
    task_left_s: float = 0.0
    """Above 0: a task runs, for so long yet."""
    absent_s: float = 0.0
    """Above 0: the device cannot be seen, for so long yet."""
    silent_s: float = 0.0
    """Above 0: the host says nothing, for so long yet."""
    idle_for_s: float = 0.0
    """No task begins for so long yet: somebody looks after the machine."""
    quarantine_due: bool = False
    """The next report asks for quarantine."""
    sequence: int = 0
    """Of the next report, in this run of the monitor."""
    powered: bool = True
    """Somebody can switch it off."""

    @property
    def busy(self) -> bool:
        """Whether a task runs."""
        return self.task_left_s > 0

    @property
    def device_present(self) -> bool:
        """Whether the host sees its device."""
        return self.absent_s <= 0

    @property
    def silent(self) -> bool:
        """Whether the host says nothing."""
        return self.silent_s > 0 or not self.powered

    @property
    def device_uptime(self) -> timedelta:
        """Since the device booted."""
        return self.at - self.device_boot


def born(machine: Machine, *, now: datetime, chance: Random, past: timedelta = timedelta(hours=2)) -> Life:
    """A life in full swing: lived for `past` already, with a monitor that started just now and has things to say."""
    begin = now - past
    booted = begin - timedelta(seconds=chance.uniform(1, 5 * 24 * _HOUR))
    life = Life(at=begin, monitor_start=begin, device_boot=booted, battery=chance.uniform(30, 100))
    life = lived(life, nature_of(machine), now=now, chance=chance)
    return replace(life, monitor_start=to_milliseconds(now), sequence=0, silent_s=0.0)


def lived(life: Life, nature: Nature, *, now: datetime, chance: Random) -> Life:
    """The life as it stands at `now`."""
    while (left := (now - life.at).total_seconds()) > 0:
        life = _step(life, nature, min(left, _LONGEST_STEP_S), chance)
    return life


def reported(life: Life) -> Life:
    """The life after a report was made of it."""
    return replace(life, quarantine_due=False, sequence=life.sequence + 1)


def switched_off(life: Life) -> Life:
    """The life without power: whatever it did has ended."""
    return replace(life, powered=False, task_left_s=0.0)


def switched_on(life: Life, chance: Random) -> Life:
    """The life with power again: it boots, and its device is found where it was lost."""
    if life.powered:
        return life
    return replace(
        life,
        powered=True,
        silent_s=chance.uniform(5, 20),
        absent_s=0.0,
        device_boot=life.at,
        monitor_start=to_milliseconds(life.at),
        sequence=0,
    )


def _step(life: Life, nature: Nature, seconds: float, chance: Random) -> Life:
    life = replace(
        life,
        at=life.at + timedelta(seconds=seconds),
        battery=_battery_after(life, nature, seconds),
        celsius=_celsius_after(life, nature, seconds, chance),
        idle_for_s=max(0.0, life.idle_for_s - seconds),
    )
    life = _work(life, nature, seconds, chance)
    return _speak(_attach(life, nature, seconds, chance), nature, seconds, chance)


def _battery_after(life: Life, nature: Nature, seconds: float) -> float:
    if not nature.has_battery:
        return life.battery
    rate = -nature.drain if life.busy else nature.charge
    return min(100.0, max(3.0, life.battery + rate * seconds / _HOUR))


def _celsius_after(life: Life, nature: Nature, seconds: float, chance: Random) -> float:
    aim = (nature.working_celsius if life.busy else _ROOM_CELSIUS + 3) + chance.gauss(0, 0.4)
    return aim + (life.celsius - aim) * math.exp(-seconds / _WARMING_S)


def _work(life: Life, nature: Nature, seconds: float, chance: Random) -> Life:
    if life.busy:
        left = life.task_left_s - seconds
        if left > 0:
            return replace(life, task_left_s=left)
        return _task_ended(life, nature, chance)
    fit = life.battery >= _START_PERCENT and life.celsius <= _START_CELSIUS and life.idle_for_s <= 0
    if fit and life.device_present and not life.silent and _happens(nature.tasks, seconds, chance):
        return replace(life, task_left_s=chance.lognormvariate(math.log(7 * 60), 0.7))
    return life


def _task_ended(life: Life, nature: Nature, chance: Random) -> Life:
    """A device is rebooted after every task."""
    quarantined = chance.random() < nature.quarantine
    return replace(
        life,
        task_left_s=0.0,
        device_boot=life.at - timedelta(seconds=chance.uniform(1, 20)),
        quarantine_due=life.quarantine_due or quarantined,
        idle_for_s=chance.uniform(1, 4) * _HOUR if quarantined else 0.0,
    )


def _attach(life: Life, nature: Nature, seconds: float, chance: Random) -> Life:
    if not life.device_present:
        left = life.absent_s - seconds
        return replace(life, absent_s=left) if left > 0 else replace(life, absent_s=0.0, device_boot=life.at)
    if _happens(nature.losses, seconds, chance):
        return replace(life, absent_s=chance.lognormvariate(math.log(6 * 60), 0.8), task_left_s=0.0)
    return life


def _speak(life: Life, nature: Nature, seconds: float, chance: Random) -> Life:
    if not life.powered:
        return life
    if life.silent:
        left = life.silent_s - seconds
        return replace(life, silent_s=left) if left > 0 else _back(life, chance)
    if _happens(nature.silences, seconds, chance):
        return replace(life, silent_s=chance.lognormvariate(math.log(10 * 60), 0.6))
    return life


def _back(life: Life, chance: Random) -> Life:
    """Either the network was away, or the host was and its monitor starts afresh."""
    if chance.random() < 0.5:
        return replace(life, silent_s=0.0)
    return replace(life, silent_s=0.0, task_left_s=0.0, monitor_start=to_milliseconds(life.at), sequence=0)


def _happens(per_hour: float, seconds: float, chance: Random) -> bool:
    return chance.random() < 1 - math.exp(-per_hour * seconds / _HOUR)
