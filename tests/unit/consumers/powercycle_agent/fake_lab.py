"""The lab as agents see it, in memory: commands, what is told of them, leases, and outages on order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from consumers.powercycle_agent.control import ControlPlane
from consumers.powercycle_agent.inventory import Controller, Inventory
from consumers.powercycle_agent.reload import Configuration
from consumers.powercycle_agent.service import Agent, Parts
from consumers.powercycle_agent.settings import AgentSettings
from consumers.powercycle_agent.switching import Patience
from pipeline.clock import Clock, SystemClock
from pipeline.errors import BrokerUnavailable, Misconfigured, Rejected
from schemas.power import (
    ControllerReport,
    PowerAction,
    PowerCommand,
    PowerMoment,
    PowerRecord,
    PowerResult,
    PowerStatus,
    PowerStep,
)
from tests.unit.consumers.powercycle_agent.fake_power import FakeDriver, Switch, order

LONG_S: Final = 60.0
SHORT_S: Final = 1.2
"""Of a lease that a test has run out."""
_ORDER: Final = [PowerStatus.QUEUED, PowerStatus.ACCEPTED, PowerStatus.OFF, PowerStatus.ON]


class FakeLab(ControlPlane):
    """Everything in memory. Leases are judged by the real clock."""

    def __init__(self) -> None:
        self.records: dict[str, PowerRecord] = {}
        self.results: list[PowerResult] = []
        self.is_away = False
        self.refuses: Callable[[PowerResult], bool] = lambda _result: False
        self._leases: dict[str, tuple[str, float]] = {}
        self._listeners: list[asyncio.Queue[PowerCommand]] = []

    # --- the test's side -----------------------------------------------------------------------------------------------

    def order(self, command: PowerCommand, *, tell: bool = True) -> PowerCommand:
        moment = PowerMoment(status=PowerStatus.QUEUED, at=command.requested_at)
        self.records[command.id] = PowerRecord(command=command, status=PowerStatus.QUEUED, steps=[moment])
        if tell:
            self.tell(command)
        return command

    def tell(self, command: PowerCommand) -> None:
        for listener in self._listeners:
            listener.put_nowait(command)

    def cancel(self, command: PowerCommand) -> None:
        self.tell(command.model_copy(update={"cancelled": True}))

    def statuses(self, command: PowerCommand) -> list[PowerStatus]:
        """How far it was told to be, in order."""
        return [step.status for step in self.steps(command) if not (step.status.is_pending and step.text)]

    def explanations(self, command: PowerCommand) -> list[tuple[PowerStatus, str]]:
        """Where it was told to take so long, and why."""
        steps = self.steps(command)
        return [(step.status, step.text) for step in steps if step.status.is_pending and step.text]

    def steps(self, command: PowerCommand) -> list[PowerStep]:
        return [
            result
            for result in self.results
            if isinstance(result, PowerStep) and result.command_id == command.id
        ]

    def has_ended(self, command: PowerCommand) -> bool:
        return any(not status.is_pending for status in self.statuses(command))

    def reports(self, machine: str) -> list[ControllerReport]:
        return [
            result
            for result in self.results
            if isinstance(result, ControllerReport) and result.machine_id == machine
        ]

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    # --- the agents' side ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[PowerCommand]]:
        self._check()
        queue: asyncio.Queue[PowerCommand] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            yield _all_of(queue)
        finally:
            self._listeners.remove(queue)

    async def pending(self) -> Sequence[PowerRecord]:
        self._check()
        return [record for record in self.records.values() if record.status.is_pending]

    async def ended_lately(self) -> Sequence[PowerRecord]:
        self._check()
        return [record for record in self.records.values() if not record.status.is_pending][::-1]

    async def report(self, results: Sequence[PowerResult]) -> None:
        self._check()
        if any(map(self.refuses, results)):
            raise Rejected("not that one")
        for result in results:
            self.results.append(result)
            if isinstance(result, PowerStep):
                self._apply(result)

    async def acquire(self, name: str, owner: str, *, seconds: float) -> bool:
        self._check()
        holder, until = self._leases.get(name, (owner, 0.0))
        if holder != owner and time.monotonic() < until:
            return False
        self._leases[name] = (owner, time.monotonic() + seconds)
        return True

    async def release(self, name: str, owner: str) -> None:
        self._check()
        if self._leases.get(name, ("", 0.0))[0] == owner:
            del self._leases[name]

    def _check(self) -> None:
        if self.is_away:
            raise BrokerUnavailable("the lab is away")

    def _apply(self, step: PowerStep) -> None:
        record = self.records.get(step.command_id)
        if record is None or not record.status.is_pending:
            return
        if step.status.is_pending and _ORDER.index(step.status) <= _ORDER.index(record.status):
            return
        moment = PowerMoment(status=step.status, at=step.at, text=step.text)
        self.records[step.command_id] = record.model_copy(
            update={
                "status": step.status,
                "steps": [*record.steps, moment],
                "agent": step.agent,
                "text": step.text,
            }
        )


async def _all_of(queue: asyncio.Queue[PowerCommand]) -> AsyncIterator[PowerCommand]:
    while True:
        yield await queue.get()


class Host:
    """A host with an agent on it, a configuration file and switches by controller."""

    def __init__(
        self,
        lab: FakeLab,
        directory: Path,
        *controllers: Controller,
        clock: Clock | None = None,
        patience: Patience | None = None,
        name: str = "rack4",
        lease_s: float = LONG_S,
    ) -> None:
        self.lab = lab
        self.controllers = list(controllers)
        self.switches: dict[str, Switch] = {}
        self.file = directory / "powercycle.json5"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("1")
        self.is_bad = False
        self.clock = clock or SystemClock()
        self.settings = AgentSettings(
            name,
            directory,
            lease=timedelta(seconds=lease_s),
            probe_every=timedelta(seconds=30),
            probe_owing_every=timedelta(milliseconds=20),
            probe_limit=timedelta(seconds=20),
            pending_every=timedelta(milliseconds=100),
            handover=timedelta(0),
            reload_every=timedelta(milliseconds=5),
            patience=patience
            or Patience(off_tries=2, on=0.05, first_pause=0.001, longest_pause=0.01, reserve=0.4),
        )
        self.configuration = Configuration(self.file, self._read)

    def switch(self, label: str = "rack4") -> Switch:
        return self.switches.setdefault(f"fake/{label}", Switch())

    def configure(self, *controllers: Controller) -> None:
        """Put another configuration in place."""
        self.controllers = list(controllers)
        self.file.write_text(self.file.read_text() + "1")

    @asynccontextmanager
    async def agent(self, *, owner: str | None = None) -> AsyncIterator[Agent]:
        """An agent at work; asked to stop in the end."""
        parts = Parts(
            self.lab, self.configuration, self._open, self.clock, owner or str(self.settings.state_dir)
        )
        agent = Agent(parts, self.settings)
        stop = asyncio.Event()
        running = asyncio.create_task(agent.run(stop))
        try:
            yield agent
        finally:
            stop.set()
            async with asyncio.timeout(60):
                await running

    def _open(self, controller: Controller) -> FakeDriver:
        return FakeDriver(self.switch(getattr(controller.settings, "address", controller.label)))

    def _read(self, _path: Path) -> Inventory:
        if self.is_bad:
            raise Misconfigured("line 3: what is this?")
        return Inventory(tuple(self.controllers))


async def until(holds: Callable[[], bool], what: str = "") -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None


def new(machine: str = "m1", action: PowerAction = PowerAction.CYCLE, **options: Any) -> PowerCommand:
    """A command that is asked for now."""
    return order(machine, action, now=SystemClock().now(), **options)


async def listening(lab: FakeLab) -> None:
    """Wait until the agent hears of commands."""
    await until(lambda: lab.listeners > 0, "the agent listens")


async def ended(lab: FakeLab, *commands: PowerCommand) -> None:
    """Wait until the lab knows what became of them."""
    await until(lambda: all(lab.has_ended(command) for command in commands), "the commands ended")
