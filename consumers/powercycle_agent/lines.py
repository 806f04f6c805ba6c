"""All controllers of the configuration at work, and which job goes to which; a new configuration changes as little as possible."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from consumers.powercycle_agent.controllers import Crew, Job, Line, Order, Resume
from consumers.powercycle_agent.drivers.errors import DriverError
from consumers.powercycle_agent.drivers.protocol import PowerDriver
from consumers.powercycle_agent.inventory import Controller, Inventory, Outlet
from consumers.powercycle_agent.journal import Entry
from pipeline import logs, metrics
from schemas.power import PowerStatus

log = logs.get_logger()

OpenDriver = Callable[[Controller], PowerDriver]
"""Raises `DriverError` when the driver cannot be had."""

_COUNT_EVERY_S: Final = 1.0


class Lines:
    """The controllers, from `run` until it is cancelled."""

    def __init__(self, inventory: Inventory, open_driver: OpenDriver, crew: Crew) -> None:
        self._inventory = inventory
        self._open_driver = open_driver
        self._crew = crew
        self._lines: dict[str, Line] = {}
        self._homeless: list[Entry] = []
        """Owed ports of controllers that are not in the configuration."""
        self._stranded: list[Resume] = []
        """Begun commands for such."""
        self._tasks: asyncio.TaskGroup | None = None
        self.started = asyncio.Event()
        """Set: jobs are taken."""

    async def run(self) -> None:
        """Work until cancelled; whatever is off then is switched on first."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for controller in self._inventory.controllers:
                    self._start(controller)
                self.started.set()
                while True:
                    metrics.POWER_PORTS_OWED.set(self._owed())
                    await asyncio.sleep(_COUNT_EVERY_S)
        finally:
            self._tasks = None
            metrics.POWER_PORTS_OWED.set(self._owed())
            for entry in (*self._homeless, *(job.entry for job in self._stranded)):
                entry.release()

    def apply(self, inventory: Inventory) -> None:
        """Take a new configuration: what is new opens, what is gone ends after its command, what is the same stays."""
        before, self._inventory = self._inventory, inventory
        if self._tasks is None:
            return
        wanted = {controller.name: controller for controller in inventory.controllers}
        waiting: list[Job] = [*self._stranded]
        owed = self._homeless
        self._stranded, self._homeless = [], []
        for old in before.controllers:
            if wanted.get(old.name) != old:
                line = self._lines.pop(old.name)
                waiting += line.retire()
                owed += line.give_up_debts()
        for controller in inventory.controllers:
            if controller.name not in self._lines:
                self._start(controller)
        for job in waiting:
            self.add(job)
        for entry in owed:
            self.owe(entry)

    def add(self, job: Job) -> None:
        """Give it to its controller."""
        line = self._line_of(job)
        if line is not None:
            line.add(job)
        elif isinstance(job, Order):
            text = "its machine is not in the configuration any more"
            self._crew.executor.decline(job.command, PowerStatus.REFUSED, text)
        elif isinstance(job, Resume):
            _complain(job.entry)
            self._stranded.append(job)

    def owe(self, entry: Entry) -> None:
        """An ended command's port should be on, and may not be."""
        line = self._lines.get(entry.intent.controller)
        if line is None:
            _complain(entry)
            self._homeless.append(entry)
        else:
            line.owe(entry)

    def outlet(self, machine_id: str) -> Outlet | None:
        """Where its power comes from; None: not from here."""
        return self._inventory.outlet(machine_id)

    def has(self, machine_id: str) -> bool:
        """Whether its power comes from here."""
        return self.outlet(machine_id) is not None

    def withdraw(self, machine_id: str, command_id: str) -> None:
        """Do not begin this command."""
        outlet = self._inventory.outlet(machine_id)
        line = self._lines.get(outlet.controller.name) if outlet is not None else None
        if line is not None:
            line.withdraw(command_id)

    def busy_with(self) -> set[str]:
        """Ids of the commands that wait, are under way, or have left a port owed."""
        here = {entry.command.id for entry in (*self._homeless, *(job.entry for job in self._stranded))}
        return here.union(*(line.busy_with() for line in self._lines.values()))

    def _line_of(self, job: Job) -> Line | None:
        if isinstance(job, Resume):
            return self._lines.get(job.entry.intent.controller)
        outlet = self._inventory.outlet(job.command.machine_id)
        return self._lines.get(outlet.controller.name) if outlet is not None else None

    def _start(self, controller: Controller) -> None:
        assert self._tasks is not None
        driver, trouble = None, controller.problem
        if not trouble:
            try:
                driver = self._open_driver(controller)
            except DriverError as error:
                trouble = str(error)
        line = Line(controller, driver, trouble, self._crew)
        self._lines[controller.name] = line
        self._tasks.create_task(self._work(line))

    async def _work(self, line: Line) -> None:
        await line.run()
        left: Iterable[str] = [machine for machine in line.controller.ports if not self.has(machine)]
        self._crew.states.gone(line.controller, left, is_whole=line.controller.name not in self._lines)

    def _owed(self) -> int:
        stranded = sum(job.entry.owes for job in self._stranded)
        return len(self._homeless) + stranded + sum(len(line.debts) for line in self._lines.values())


def _complain(entry: Entry) -> None:
    log.error(
        "port_without_controller",
        machine=entry.command.machine_id,
        controller=entry.intent.controller,
        port=entry.intent.port,
        note="this port may be off and its controller is not in the configuration: put it back, or see to the port",
    )
