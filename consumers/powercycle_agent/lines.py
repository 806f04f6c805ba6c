"""All controllers of the configuration at work, and which job goes to which; a new configuration changes as little as possible."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from consumers.powercycle_agent.controllers import Crew, Line
from consumers.powercycle_agent.drivers.errors import DriverError
from consumers.powercycle_agent.drivers.protocol import PowerDriver
from consumers.powercycle_agent.inventory import Controller, Inventory, Outlet
from consumers.powercycle_agent.jobs import Job, Order, Resume
from consumers.powercycle_agent.journal import Entry
from consumers.powercycle_agent.succession import (
    advice,
    home_of,
    is_same_device,
    may_be_same_device,
    users_of,
)
from pipeline import logs, metrics
from schemas.power import PowerCommand, PowerStatus

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
        self._leaving: list[Line] = []
        """Controllers that are not in the configuration any more, as long as they have something left to do."""
        self._homeless: dict[str, Entry] = {}
        """Owed ports of controllers that were not in the configuration when we began, by command."""
        self._stranded: dict[str, Resume] = {}
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
                    await self._forget_removed()
                    metrics.POWER_PORTS_OWED.set(self._owed())
                    await asyncio.sleep(_COUNT_EVERY_S)
        finally:
            self._tasks = None
            metrics.POWER_PORTS_OWED.set(self._owed())
            for entry in self._without_controller():
                entry.release()

    def apply(self, inventory: Inventory) -> None:
        """Take a new configuration: what is new opens, what is gone ends with nothing owed, what is the same stays."""
        before, self._inventory = self._inventory, inventory
        if self._tasks is None:
            return
        wanted = {controller.name: controller for controller in inventory.controllers}
        waiting: list[Job] = [*self._stranded.values()]
        owed = [*self._homeless.values()]
        self._stranded, self._homeless = {}, {}
        for old in before.controllers:
            if wanted.get(old.name) != old:
                line = self._lines.pop(old.name)
                self._leaving.append(line)
                waiting += line.retire()
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
            self._stranded[job.command.id] = job

    def owe(self, entry: Entry) -> None:
        """An ended command's port should be on, and may not be."""
        line = self._home_of(entry)
        if line is None:
            _complain(entry)
            self._homeless[entry.command.id] = entry
        else:
            line.owe(entry)

    def take_over(self, debt: Entry, former: Controller) -> bool:
        """`controllers.Others`."""
        same = (each for each in self._inventory.controllers if is_same_device(each, former))
        heir = next(same, home_of(debt, self._inventory))
        if heir is None:
            return False
        log.warning("debt_passed_on", machine=debt.command.machine_id, former=former.name, heir=heir.name)
        self._lines[heir.name].owe(debt)
        return True

    def tell_gone(self, controller: Controller, trouble: str) -> None:
        """`controllers.Others`."""
        name = controller.name
        if trouble:
            note = "its settings are kept until the port is on; put it back before the agent is restarted, or see to the port"
            log.error("former_controller_owes", controller=name, reason=trouble, note=note)
        left: Iterable[str] = [machine for machine in controller.ports if not self.has(machine)]
        self._crew.states.gone(controller, left, trouble, is_whole=name not in self._lines)

    def outlet(self, machine_id: str) -> Outlet | None:
        """Where its power comes from; None: not from here."""
        return self._inventory.outlet(machine_id)

    def has(self, machine_id: str) -> bool:
        """Whether its power comes from here."""
        return self.outlet(machine_id) is not None

    def users_of(self, entry: Entry) -> Collection[str]:
        """Machines whose commands drive the port of an entry today."""
        return users_of(entry, self._inventory)

    def withdraw(self, machine_id: str, command_id: str) -> None:
        """Do not begin this command."""
        for line in self._lines_with(machine_id):
            line.withdraw(command_id)

    def is_busy_with(self, command: PowerCommand) -> bool:
        """Whether it waits here, is under way, or has left its port owed. Costs the same however many do."""
        if command.id in self._homeless or command.id in self._stranded:
            return True
        return any(line.is_busy_with(command.id) for line in self._lines_with(command.machine_id))

    def _lines_with(self, machine_id: str) -> Sequence[Line]:
        """Those that may have a command of this machine."""
        outlet = self._inventory.outlet(machine_id)
        line = self._lines.get(outlet.controller.name) if outlet is not None else None
        return [*([] if line is None else [line]), *self._leaving]

    def _line_of(self, job: Job) -> Line | None:
        if isinstance(job, Resume):
            return self._home_of(job.entry)
        outlet = self._inventory.outlet(job.command.machine_id)
        return self._lines.get(outlet.controller.name) if outlet is not None else None

    def _home_of(self, entry: Entry) -> Line | None:
        home = home_of(entry, self._inventory)
        return None if home is None else self._lines.get(home.name)

    def _start(self, controller: Controller) -> None:
        assert self._tasks is not None
        driver, trouble = None, controller.problem
        if not trouble:
            try:
                driver = self._open_driver(controller)
            except DriverError as error:
                trouble = str(error)
        line = Line(controller, driver, trouble, self._crew, self)
        self._lines[controller.name] = line
        formers = [each for each in self._leaving if may_be_same_device(controller, each.controller)]
        for former in formers:
            former.look_again()
        self._tasks.create_task(self._work(line, formers))

    async def _work(self, line: Line, formers: Sequence[Line]) -> None:
        """`formers` may have the same device: two never drive it at once."""
        for former in formers:
            await former.is_aside.wait()
        await line.run()
        self._leaving.remove(line)

    async def _forget_removed(self) -> None:
        """Of a port without a controller, a person has the last word."""
        without = self._without_controller()
        if not without:
            return
        there = await asyncio.to_thread(lambda: [entry.path.exists() for entry in without])
        for entry, is_there in zip(without, there, strict=True):
            command_id = entry.command.id
            if is_there:
                continue
            if self._homeless.pop(command_id, None) or self._stranded.pop(command_id, None):
                log.warning("debt_written_off", machine=entry.command.machine_id, file=str(entry.path))
                entry.release()

    def _without_controller(self) -> list[Entry]:
        return [*self._homeless.values(), *(job.entry for job in self._stranded.values())]

    def _owed(self) -> int:
        lines = [*self._lines.values(), *self._leaving]
        return sum(each.owes for each in self._without_controller()) + sum(len(each.debts) for each in lines)


def _complain(entry: Entry) -> None:
    log.error(
        "port_without_controller",
        machine=entry.command.machine_id,
        controller=entry.intent.controller,
        port=entry.intent.port,
        note=advice(entry),
    )
