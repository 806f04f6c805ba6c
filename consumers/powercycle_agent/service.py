"""The agent: while it holds the lease it hears of commands, has them carried out and probes its controllers; else it stands by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from consumers.powercycle_agent.control import ControlPlane
from consumers.powercycle_agent.controllers import Crew
from consumers.powercycle_agent.delivery import Delivery
from consumers.powercycle_agent.executor import Executor, Reboot, step_of, steps_of
from consumers.powercycle_agent.inventory import Inventory, Outlet
from consumers.powercycle_agent.jobs import Order, TakeOver
from consumers.powercycle_agent.journal import Entry, Journal
from consumers.powercycle_agent.lease import Lease
from consumers.powercycle_agent.lines import Lines, OpenDriver
from consumers.powercycle_agent.locks import Locks
from consumers.powercycle_agent.plain_text import told
from consumers.powercycle_agent.probing import States
from consumers.powercycle_agent.recovery import Recovery
from consumers.powercycle_agent.reload import Configuration
from consumers.powercycle_agent.settings import AgentSettings
from consumers.powercycle_agent.standby import pay_debts_alone
from pipeline import logs, metrics
from pipeline.broker.waiting import first_of, is_set_within
from pipeline.clock import Clock
from pipeline.errors import Retryable
from pipeline.retry import Backoff
from pipeline.service import together
from schemas.power import PowerCommand, PowerMoment, PowerRecord, PowerStatus, PowerStep

log = logs.get_logger()

_STRANDED: Final = timedelta(minutes=5)
"""What an agent of another name began and has not moved on for so long, beyond its pause, is ours if the port is."""
_DECLINED_S: Final = 60.0
"""What we would not begin is told again when the lab waits for it after so long. It is never begun after all."""
_LATELY_S: Final = 3.0
"""How long ports that may be off wait for the lab to say whether somebody has driven them since."""
_HEAR_S: Final = 10.0
"""How long pending commands wait for the subscription; then they are asked for all the same."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What an agent is made of."""

    control: ControlPlane
    configuration: Configuration
    open_driver: OpenDriver
    clock: Clock
    owner: str
    """Names this process in the lease: unlike any other's, and the same after a restart."""
    reboot: Reboot | None = None


class Agent:
    """One process of an agent's name."""

    def __init__(self, parts: Parts, settings: AgentSettings) -> None:
        self._parts = parts
        self._settings = settings
        self._journal = Journal(settings.journal)
        self._locks = Locks(settings.locks)
        self._delivery = Delivery(parts.control)
        self._lease = Lease(parts.control, settings.name, parts.owner, settings.lease.total_seconds())
        self._states = States(parts.clock, settings.name, self._delivery.report)
        self._recovery = Recovery(self._journal, self._delivery, parts.clock, settings.name)
        self._declined: dict[str, tuple[float, PowerStep]] = {}
        """What the lab was told of commands that we would not begin, and when; until it waits for them no more."""
        self._explained: dict[str, str] = {}
        """Why commands that are under way take so long, by id, as it was told last."""
        self._lines: Lines | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; ports that are off then are switched on, and results delivered, within bounds."""
        worked, delivered = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            try:
                await self._work(stop)
            finally:
                worked.set()

        async def deliver() -> None:
            try:
                await self._delivery.run(worked)
                await self._delivery.sink_in(self._settings.handover.total_seconds())
            finally:
                delivered.set()

        await together(work(), deliver(), self._lease.keep(delivered), self._watch_configuration(worked))

    async def _watch_configuration(self, over: asyncio.Event) -> None:
        watching = asyncio.create_task(
            self._parts.configuration.watch(self._settings.reload_every, self._reconfigure)
        )
        await first_of(watching, asyncio.create_task(over.wait()))
        if not watching.cancelled():
            watching.result()

    async def _work(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if await self._is_on_duty(stop):
                await self._duty(stop)
            elif not stop.is_set():
                await self._stand_by()

    async def _is_on_duty(self, stop: asyncio.Event) -> bool:
        """Wait for the lease, at most as long as one lasts."""
        gaining = asyncio.create_task(self._lease.is_gained_within(self._settings.lease.total_seconds() / 3))
        stopping = asyncio.create_task(stop.wait())
        await first_of(gaining, stopping)
        return not gaining.cancelled() and gaining.result() and not stop.is_set()

    async def _stand_by(self) -> None:
        """Ports that we have left off are somebody else's as long as there may be somebody: the lab would know."""
        await self._recovery.tell_ended()
        if self._lease.unanswered_for() >= self._settings.lease.total_seconds():
            await pay_debts_alone(
                self._recovery,
                self._parts.configuration.inventory,
                self._parts.open_driver,
                self._crew(self._executor(is_alone=True)),
            )

    def _reconfigure(self, inventory: Inventory) -> None:
        if self._lines is not None:
            self._lines.apply(inventory)

    # --- on duty -------------------------------------------------------------------------------------------------------

    async def _duty(self, stop: asyncio.Event) -> None:
        """Until the lease ends or we are asked to."""
        lines = Lines(
            self._parts.configuration.inventory, self._parts.open_driver, self._crew(self._executor())
        )
        working = asyncio.create_task(together(lines.run(), self._serve(lines)))
        self._lines = lines
        try:
            await first_of(
                working, asyncio.create_task(self._lease.ended()), asyncio.create_task(stop.wait())
            )
        finally:
            self._lines = None
            self._recovery.let_go()
            self._states.forget()
        with suppress(asyncio.CancelledError):
            working.result()

    async def _serve(self, lines: Lines) -> None:
        await lines.started.wait()
        lately = await self._ended_lately()
        await self._recovery.begin(lines, lately)
        await self._recovery.inherit(lines, lately)
        listening = asyncio.Event()
        await together(self._hear(lines, listening), self._catch_up(lines, listening))

    async def _ended_lately(self) -> Sequence[PowerRecord]:
        """What became of commands while we were away; nothing, if the lab does not say so at once."""
        try:
            async with asyncio.timeout(_LATELY_S):
                return await self._parts.control.ended_lately()
        except (Retryable, TimeoutError) as error:
            log.warning("history_not_asked", reason=str(error) or "no answer")
            return ()

    async def _hear(self, lines: Lines, listening: asyncio.Event) -> None:
        backoff = Backoff()
        while True:
            try:
                async with self._parts.control.listen() as commands:
                    backoff.reset()
                    listening.set()
                    async for command in commands:
                        self._take(lines, command)
            except Retryable as error:
                pause = backoff.next()
                log.warning("commands_not_heard", reason=str(error), retry_in_s=round(pause, 2))
                await asyncio.sleep(pause)

    async def _catch_up(self, lines: Lines, listening: asyncio.Event) -> None:
        """Ask for all pending commands, now and every so often."""
        await is_set_within(listening, _HEAR_S)
        backoff = Backoff()
        while True:
            try:
                pending = await self._parts.control.pending()
            except Retryable as error:
                pause = backoff.next()
                log.warning("pending_not_asked", reason=str(error), retry_in_s=round(pause, 2))
            else:
                backoff.reset()
                pause = self._settings.pending_every.total_seconds()
                self._recovery.decide(lines, {record.command.id for record in pending})
                self._take_all(lines, pending)
                await self._recovery.begin(lines)
            await asyncio.sleep(pause)

    def _take_all(self, lines: Lines, pending: Sequence[PowerRecord]) -> None:
        self._insist({record.command.id for record in pending})
        for record in pending:
            command = record.command
            is_busy = lines.is_busy_with(command) or self._recovery.is_undecided(command.id)
            if is_busy or not lines.has(command.machine_id):
                continue
            if record.status is PowerStatus.QUEUED or self._journal.knows(command.id):
                self._take(lines, command)
                self._tell_again(command)
            elif self._is_ours(record):
                log.warning("command_taken_over", command=command.id, begun_by=record.agent)
                lines.add(TakeOver(record, restores=record.agent != self._settings.name))

    def _insist(self, pending: Collection[str]) -> None:
        """What we declined long ago and the lab still waits for has got lost, or nobody has read it yet."""
        now = time.monotonic()
        for command_id, (since, step) in list(self._declined.items()):
            if now - since < _DECLINED_S:
                continue
            del self._declined[command_id]
            if command_id in pending:
                self._declined[command_id] = now, step
                self._delivery.step(step, None)

    def _take(self, lines: Lines, command: PowerCommand) -> None:
        """A command for any machine, perhaps not for the first time."""
        if not lines.has(command.machine_id):
            return
        if command.cancelled:
            lines.withdraw(command.machine_id, command.id)
            return
        if command.agent not in {"", self._settings.name}:
            return  # another agent has the same port in its configuration, and the lab counts on that one
        known = self._journal.knows(command.id) or command.id in self._declined
        if not known and not lines.is_busy_with(command):
            lines.add(Order(command))

    def _tell_again(self, command: PowerCommand) -> None:
        """The lab waits for what it was told: something was lost on the way."""
        ended = self._journal.ended(command.id)
        if ended is not None:
            for step in steps_of(ended, self._settings.name):
                self._delivery.step(step, None)

    def _is_ours(self, record: PowerRecord) -> bool:
        """Whether to finish what somebody else began: a process of our name is gone, we hold its lease. And whoever else
        begins something at a port of ours, and moves no more, may have left it off.
        """
        if record.agent == self._settings.name:
            return True
        patience = _STRANDED + timedelta(seconds=record.command.delay_s or 0)
        return self._parts.clock.now() - record.steps[-1].at > patience

    # --- what it works with --------------------------------------------------------------------------------------------

    def _crew(self, executor: Executor) -> Crew:
        return Crew(executor, self._locks, self._states, self._parts.clock, self._settings)

    def _executor(self, *, is_alone: bool = False) -> Executor:
        return Executor(
            self._journal,
            self._parts.clock,
            self._tell,
            agent=self._settings.name,
            reboot=self._parts.reboot,
            patience=self._settings.patience,
            mandate=None if is_alone else self._lease,
            met=None if is_alone else self._met,
        )

    def _met(self, entry: Entry, outlet: Outlet, trouble: str) -> None:
        """How a try went: the lab is to know of the controller, and why the command takes so long."""
        self._states.met(outlet.controller, trouble)
        if not trouble or self._explained.get(entry.command.id) == trouble:
            return
        self._explained[entry.command.id] = trouble
        moment = PowerMoment(status=entry.reached, at=self._parts.clock.now(), text=told(trouble))
        self._delivery.step(step_of(entry, moment, self._settings.name), None)

    def _tell(self, step: PowerStep, entry: Entry | None) -> None:
        """A step of a command: count it, and have the lab told."""
        if not step.status.is_pending:
            self._explained.pop(step.command_id, None)
            metrics.POWER_COMMANDS_ENDED.labels(step.status.value).inc()
            log.info(
                "command_ended",
                command=step.command_id,
                machine=step.machine_id,
                outcome=step.status.value,
                text=step.text,
            )
        if entry is not None and step.status is PowerStatus.ACCEPTED:
            log.info(
                "command_begun",
                command=step.command_id,
                machine=step.machine_id,
                controller=entry.intent.controller,
                port=entry.intent.port,
                action=entry.command.action.value,
                who=entry.command.who,
            )
        if entry is None:
            self._declined[step.command_id] = time.monotonic(), step
        else:
            _measure(step, entry)
        self._delivery.step(step, entry)


def _measure(step: PowerStep, entry: Entry) -> None:
    before = [moment.at for moment in (*entry.intent.before, *entry.moments) if moment.at <= step.at]
    since = before[-2] if len(before) > 1 else entry.command.requested_at
    metrics.POWER_STEP_SECONDS.labels(step.status.value).observe(max(0.0, (step.at - since).total_seconds()))
