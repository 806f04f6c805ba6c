"""An agent as a process of its own, forked from one that has imported everything, which can be made to die at a chosen moment."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil

from consumers.powercycle_agent.drivers.errors import Unreachable
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.settings import ControllerSettings
from consumers.powercycle_agent.http_control import Access, HttpControl
from consumers.powercycle_agent.identity import alone_in, owner_of
from consumers.powercycle_agent.inventory import Controller, Inventory
from consumers.powercycle_agent.locks import Locks
from consumers.powercycle_agent.reload import Configuration
from consumers.powercycle_agent.service import Agent, Parts
from consumers.powercycle_agent.settings import AgentSettings
from consumers.powercycle_agent.switching import Patience
from pipeline import logs
from pipeline.clock import SystemClock

_FORKED: Final = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload([__name__, "pytest"])
"""Each process begins by importing what the test's own began with."""
_PATIENCE_S: Final = 120.0
_ROUNDS: Final = 10


@dataclass(frozen=True)
class Plan:
    """What the process is to be."""

    url: str
    name: str
    state_dir: Path
    switch_port: int
    ports: tuple[tuple[str, str, str], ...]
    """Controller's label, machine id, port."""
    off_for_s: float = 0.05
    lease_s: float = 30.0
    dies_at: int = 0
    """Its how many-th call of the operating system to change a file kills it; 0: none."""
    half_written: bool = False
    """If that call writes, half of it is written first."""


class LineDriver:
    """`PowerDriver` for `LineSwitch`, on a connection that is kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def on(self, port: str) -> None:
        await self._say("on", port)

    async def off(self, port: str) -> None:
        await self._say("off", port)

    async def status(self, port: str) -> PortState:
        return PortState(await self._say("status", port))

    async def probe(self) -> None:
        """A connection is enough."""
        await self._connection()

    async def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    async def _say(self, verb: str, port: str) -> str:
        try:
            reader, writer = await self._connection()
            writer.write(f"{verb} {port} {os.getpid()}\n".encode())
            await writer.drain()
            answer = (await reader.readline()).decode().split()
        except (OSError, asyncio.CancelledError) as error:
            await self.close()
            if isinstance(error, OSError):
                raise Unreachable(f"the switch is away: {error}") from error
            raise
        if answer[:1] != ["ok"]:
            await self.close()
            raise Unreachable("the switch broke off")
        return answer[1]

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._open is None:
            try:
                self._open = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError as error:
                raise Unreachable(f"the switch is away: {error}") from error
        return self._open


class AgentProcess:
    """The process, from the test's side."""

    def __init__(self, plan: Plan) -> None:
        self._is_ready = _FORKED.Event()
        self._process: ForkServerProcess = _FORKED.Process(
            target=_run, args=(plan, self._is_ready), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def kill(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def stopped(self) -> None:
        """Wait until a `SIGSTOP` has stopped it, and this event loop has read what it had sent before."""
        process = psutil.Process(self.pid)
        async with asyncio.timeout(_PATIENCE_S):
            while process.status() != psutil.STATUS_STOPPED:
                await asyncio.sleep(0.002)
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """As an operator would; fails if it does not end well."""
        assert await asyncio.to_thread(self._is_ready.wait, _PATIENCE_S)
        self.kill(signal.SIGTERM)
        code = await self.ended()
        assert code == 0, f"ended with {code}"

    async def ended(self) -> int | None:
        """Wait for its end; its exit code, or the negative number of the signal that killed it."""
        loop, has_ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(
            self._process.sentinel, has_ended.set
        )  # not `join` in a thread: to start another asks as well
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await has_ended.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()
        return self._process.exitcode

    def put_away(self) -> None:
        """Whatever became of it."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.join()


def _run(plan: Plan, is_ready: Event) -> None:
    logs.configure("powercycle-agent", level="error")
    if plan.dies_at:
        _lay_fuse(plan.dies_at, half_written=plan.half_written)
    asyncio.run(_serve(plan, is_ready))


async def _serve(plan: Plan, is_ready: Event) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    is_ready.set()
    settings = AgentSettings(
        plan.name,
        plan.state_dir,
        lease=timedelta(seconds=plan.lease_s),
        pending_every=timedelta(seconds=0.3),
        handover=timedelta(0),
        patience=Patience(first_pause=0.01, longest_pause=0.1, reserve=plan.lease_s / 3),
    )
    kind = DriverKind("line", ControllerSettings, lambda _settings, _secrets: LineDriver(plan.switch_port))
    inventory = _inventory(plan, kind)
    configuration = Configuration(plan.state_dir, lambda _path: inventory)
    async with (
        alone_in(settings.state_dir, Locks(settings.locks), stop) as is_ours,
        aiohttp.ClientSession() as session,
    ):
        if is_ours:
            control = HttpControl(session, Access(plan.url))
            secrets = Secrets({}, plan.state_dir / "known_hosts")
            parts = Parts(
                control,
                configuration,
                lambda controller: kind.open(controller.settings, secrets),
                SystemClock(),
                owner_of(plan.state_dir),
            )
            await Agent(parts, settings).run(stop)


def _inventory(plan: Plan, kind: DriverKind) -> Inventory:
    labels = dict.fromkeys(label for label, _, _ in plan.ports)
    controllers = []
    for label in labels:
        ports = {machine: port for home, machine, port in plan.ports if home == label}
        settings = ControllerSettings(ports=dict(ports))
        controllers.append(
            Controller(kind.name, label, ports, kind, settings, timedelta(seconds=plan.off_for_s))
        )
    return Inventory(tuple(controllers))


def _lay_fuse(dies_at: int, *, half_written: bool) -> None:
    """Have this process die over one of its next changes of a file."""
    left = dies_at

    def dying(call: Callable[..., Any], *, writes: bool = False) -> Callable[..., Any]:
        def changed(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                if writes and half_written:
                    descriptor, content, offset = arguments
                    call(descriptor, content[: len(content.rstrip(b"\0")) // 2], offset)
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return changed

    os.pwrite = dying(os.pwrite, writes=True)
    for name in ("fsync", "ftruncate", "rename"):
        setattr(os, name, dying(getattr(os, name)))
