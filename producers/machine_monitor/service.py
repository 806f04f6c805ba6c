"""Puts a monitor together and runs it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import aiohttp

from pipeline import logs
from pipeline.clock import Clock
from pipeline.errors import Misconfigured
from pipeline.service import together
from producers.machine_monitor.belief import Belief
from producers.machine_monitor.bot_server import BotServer
from producers.machine_monitor.change_watch import ChangeWatch
from producers.machine_monitor.delivery import Connect, Delivery
from producers.machine_monitor.description_watch import DescriptionWatch
from producers.machine_monitor.facade import Facade, FacadeUnavailable
from producers.machine_monitor.identity import next_start_time, version
from producers.machine_monitor.interrogation import Interrogator, TaskState
from producers.machine_monitor.loop import InterrogationLoop
from producers.machine_monitor.probes.adb import AdbProbe
from producers.machine_monitor.probes.chromeos import ChromeosProbe
from producers.machine_monitor.probes.commands import CommandRunner
from producers.machine_monitor.probes.host import host_probe
from producers.machine_monitor.probes.ios import IosProbe
from producers.machine_monitor.probes.protocol import Probe
from producers.machine_monitor.probes.pyocd import PyocdProbe
from producers.machine_monitor.probes.ssh import SshClient
from producers.machine_monitor.quarantine import QuarantineFile
from producers.machine_monitor.reboot import Rebooters, RebootWorker
from producers.machine_monitor.settings import MonitorSettings, ProbeSettings
from producers.machine_monitor.sinks.broker import OpenBroker, broker_sink
from producers.machine_monitor.sinks.http import HttpSink
from producers.machine_monitor.spool import Spool
from producers.machine_monitor.state import StateFolder
from producers.machine_monitor.swarming import SwarmingBot
from schemas.description import AttachedDevice, Description
from schemas.event import Event, Host
from schemas.wire import to_milliseconds

_LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Devices:
    """Everything that can be asked, and restarted."""

    probes: Mapping[AttachedDevice, Probe]
    rebooters: Rebooters


def devices(settings: ProbeSettings, tasks: TaskState, environment: Mapping[str, str]) -> Devices:
    """Probes for every kind of device, that find their tools by `environment`."""
    commands = CommandRunner(environment=environment)
    adb, ios = AdbProbe(commands), IosProbe(commands)
    chromeos = ChromeosProbe(SshClient(settings.ssh), address_file=settings.address_file)
    pyocd = PyocdProbe(
        commands, config=settings.pyocd_config, busy=lambda: tasks.running, environment=environment
    )
    return Devices(
        {
            AttachedDevice.NONE: host_probe(commands, metadata_host=settings.metadata_host),
            AttachedDevice.ADB: adb,
            AttachedDevice.IOS: ios,
            AttachedDevice.PYOCD: pyocd,
            AttachedDevice.SSH: chromeos,
        },
        Rebooters(android=adb, ios=ios, ssh=chromeos),
    )


async def run_monitor(
    settings: MonitorSettings,
    stop: asyncio.Event,
    *,
    clock: Clock,
    open_broker: OpenBroker | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Monitor until `stop` is set. Events go to the broker if there is one, else to the façade. Raises `Misconfigured`."""
    async with _monitor(settings, clock=clock, open_broker=open_broker, environment=environment) as monitor:
        await monitor.run(stop)


async def send_once(
    settings: MonitorSettings,
    *,
    clock: Clock,
    open_broker: OpenBroker | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Interrogate and send once, behind what waited before. Raises `Retryable` when it cannot be sent: it waits then."""
    async with _monitor(settings, clock=clock, open_broker=open_broker, environment=environment) as monitor:
        await monitor.send_once()


async def interrogate_once(
    settings: MonitorSettings,
    *,
    clock: Clock,
    open_broker: OpenBroker | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Event:
    """The event that a monitor started now would send first. Leaves no trace in the state folder.

    Raises `Retryable` when only a broker could tell what is attached, and it is away.
    """
    state = StateFolder(settings.state_dir)
    belief = Belief(attached_device=settings.attached_device)
    async with aiohttp.ClientSession() as session:
        if settings.url is not None:
            facade = Facade(session, settings.url, settings.token)
            await DescriptionWatch(facade, belief, settings.machine_id, clock=clock).refresh()
    if belief.current is None and not belief.restore(state.description):
        if settings.url is None and open_broker is not None:
            await ChangeWatch(open_broker, belief, settings.machine_id, clock=clock).learn()
        else:
            belief.replace(Description.new(settings.machine_id, now=clock.now()))
    tasks = TaskState(launched_swarming=settings.swarming is not None)
    host = Host(name=settings.machine_id, version=version(), start_time=to_milliseconds(clock.now()))
    interrogator = Interrogator(host, devices(settings.probes, tasks, environment).probes, tasks)
    event = await interrogator.interrogate(await belief.known())
    stamp = QuarantineFile(settings.home, settings.machine_id).stamp()
    return event.model_copy(update={"sequence": 0, "forced_quarantine": bool(stamp)})


@asynccontextmanager
async def _monitor(
    settings: MonitorSettings, *, clock: Clock, open_broker: OpenBroker | None, environment: Mapping[str, str]
) -> AsyncIterator[_Monitor]:
    state = StateFolder(settings.state_dir)
    with state.hold():
        async with aiohttp.ClientSession() as session:
            facade = None if settings.url is None else Facade(session, settings.url, settings.token)
            yield _Monitor(
                settings, state, facade, open_broker, clock=clock, environment=environment, session=session
            )


def _connect(facade: Facade | None, open_broker: OpenBroker | None) -> Connect:
    if open_broker is not None:
        return partial(broker_sink, open_broker)
    if facade is not None:
        sink = HttpSink(facade)
        return lambda: nullcontext(sink)
    raise Misconfigured("say where events shall go: give --url of a façade, or --database-url")


class _Monitor:
    """All parts of one monitor."""

    def __init__(
        self,
        settings: MonitorSettings,
        state: StateFolder,
        facade: Facade | None,
        open_broker: OpenBroker | None,
        *,
        clock: Clock,
        environment: Mapping[str, str],
        session: aiohttp.ClientSession,
    ) -> None:
        connect = _connect(facade, open_broker)
        self._settings = settings
        self._environment = environment
        self._session = session
        machine_id = settings.machine_id
        host = Host(
            name=machine_id,
            version=version(),
            start_time=next_start_time(state.start_time, now=clock.now()),
        )
        tasks = TaskState(launched_swarming=settings.swarming is not None)
        found = devices(settings.probes, tasks, environment)
        spool = Spool(state.spool, settings.spool)
        quarantine = QuarantineFile(settings.home, machine_id)
        self._belief = Belief(state.description, attached_device=settings.attached_device)
        self._delivery = Delivery(spool, connect, quarantine, machine_id)
        self._loop = InterrogationLoop(
            machine_id,
            Interrogator(host, found.probes, tasks),
            self._belief,
            spool,
            quarantine,
            period=settings.period,
            on_event=self._delivery.notify,
        )
        self._belief.on_other_device = self._loop.trigger
        self._reboots = RebootWorker(found.rebooters, self._belief, afterwards=self._loop.trigger)
        self._bot_server = BotServer(
            machine_id, self._belief, tasks, rack=settings.rack, on_task_end=self._reboots.request
        )
        self._watch: DescriptionWatch | None = None
        self._changes: ChangeWatch | None = None
        if facade is not None:
            self._watch = DescriptionWatch(
                facade, self._belief, machine_id, clock=clock, period=settings.description_period
            )
        elif open_broker is not None:
            self._changes = ChangeWatch(open_broker, self._belief, machine_id, clock=clock)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set. What has not been sent by then stays in the spool for the next run."""
        async with AsyncExitStack() as stack:
            if self._settings.port is not None:
                listening = self._bot_server.listening(_LOOPBACK, self._settings.port)
                port = await stack.enter_async_context(listening)
                logs.get_logger().info("serving the swarming bot", port=port)
            await _until(stop, self._parts())

    async def send_once(self) -> None:
        """Interrogate, and send everything that waits."""
        if self._changes is not None:
            await self._changes.learn()
        if self._watch is not None and not await self._watch.refresh() and not self._belief.restore():
            raise FacadeUnavailable("the façade does not tell what is attached to this machine")
        await self._loop.step()
        await self._delivery.empty()

    def _parts(self) -> list[Coroutine[Any, Any, None]]:
        parts = [self._believe(), self._loop.run(), self._delivery.run(), self._reboots.run()]
        if self._settings.swarming is not None:
            bot = SwarmingBot(
                self._settings.swarming,
                self._settings.machine_id,
                self._session,
                environment=self._environment,
            )
            parts.append(bot.run())
        return parts

    async def _believe(self) -> None:
        if self._changes is not None:
            await self._changes.run()
        if self._watch is not None:
            await self._watch.learn()
            await together(self._watch.poll(), self._watch.listen())


async def _until(stop: asyncio.Event, parts: list[Coroutine[Any, Any, None]]) -> None:
    """Run the parts together until `stop` is set, or one of them fails; its error is raised."""
    work = asyncio.create_task(together(*parts))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work
