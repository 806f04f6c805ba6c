"""A switch of no make, with faults on order, and commands for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from consumers.powercycle_agent.drivers.errors import Unreachable
from consumers.powercycle_agent.drivers.protocol import DriverKind, PortState
from consumers.powercycle_agent.drivers.settings import ControllerSettings, SoftReboot
from consumers.powercycle_agent.inventory import Controller, Outlet
from schemas.ids import new_ulid
from schemas.power import PowerAction, PowerCommand

START: Final = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


@dataclass
class Switch:
    """The device: its ports, what was done to them, and what goes wrong next."""

    states: dict[str, PortState] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    """`off 1`, `on 1`, in order; refused ones too."""
    faults: dict[str, list[Exception]] = field(default_factory=dict)
    """Verb → what its next calls raise."""
    is_dead: bool = False
    holds: Mapping[str, asyncio.Event] = field(default_factory=dict)
    """Verb → what its calls wait for."""
    opened: int = 0
    closed: int = 0
    busy: int = 0
    most_busy: int = 0
    before: Callable[[str], None] = lambda _verb: None

    async def call(self, verb: str, port: str) -> None:
        self.done.append(f"{verb} {port}".strip())
        self.before(verb)
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        try:
            if verb in self.holds:
                await self.holds[verb].wait()
            await asyncio.sleep(0)
            if self.is_dead:
                raise Unreachable("the switch does not answer")
            if self.faults.get(verb):
                raise self.faults[verb].pop(0)
        finally:
            self.busy -= 1

    @property
    def switched(self) -> list[str]:
        """What was done to ports, without the asking."""
        return [what for what in self.done if what.startswith(("on", "off"))]


class FakeDriver:
    """`PowerDriver` for it."""

    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        switch.opened += 1

    async def on(self, port: str) -> None:
        await self.switch.call("on", port)
        self.switch.states[port] = PortState.ON

    async def off(self, port: str) -> None:
        await self.switch.call("off", port)
        self.switch.states[port] = PortState.OFF

    async def status(self, port: str) -> PortState:
        await self.switch.call("status", port)
        return self.switch.states.get(port, PortState.ON)

    async def probe(self) -> None:
        await self.switch.call("probe", "")

    async def close(self) -> None:
        self.switch.closed += 1


def _open(_settings: Any, _secrets: Any) -> FakeDriver:
    return FakeDriver(Switch())


KIND: Final = DriverKind("fake", ControllerSettings, _open)


class _Addressed(ControllerSettings):
    address: str


def controller(
    label: str = "rack4",
    ports: Mapping[str, str] | None = None,
    *,
    address: str = "",
    off_for_s: float = 0.01,
    kind: DriverKind = KIND,
    soft_reboot: SoftReboot | None = None,
    problem: str = "",
) -> Controller:
    ports = ports if ports is not None else {"m1": "1", "m2": "2"}
    settings = ControllerSettings(ports=dict(ports))
    return Controller(
        kind.name,
        label,
        ports,
        None if problem else kind,
        _Addressed(ports=dict(ports), address=address) if address else settings,
        timedelta(seconds=off_for_s),
        soft_reboot,
        problem,
    )


def outlet(machine: str = "m1", port: str = "1", **options: Any) -> Outlet:
    return Outlet(machine, controller(**options), port)


def order(
    machine: str = "m1",
    action: PowerAction = PowerAction.CYCLE,
    *,
    now: datetime = START,
    expires_in_s: float = 600,
    delay_s: float | None = None,
    **fields: Any,
) -> PowerCommand:
    return PowerCommand(
        id=new_ulid(),
        machine_id=machine,
        action=action,
        delay_s=delay_s,
        who="ann",
        requested_at=now,
        expires_at=now + timedelta(seconds=expires_in_s),
        **fields,
    )
