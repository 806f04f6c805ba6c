"""Which controllers there are, and which machine hangs on which port: the content of `powercycle.json5`, checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from consumers.powercycle_agent.drivers.protocol import DriverKind
from consumers.powercycle_agent.drivers.settings import ControllerSettings, SoftReboot


@dataclass(frozen=True, slots=True)
class Controller:
    """One controller as the configuration has it."""

    kind: str
    """Such as `edgeswitch`."""
    label: str
    ports: Mapping[str, str]
    """Machine id → port, in the `counting_order` of machine ids."""
    driver: DriverKind | None = None
    """None: `problem` says why."""
    settings: ControllerSettings | None = None
    off_for: timedelta = timedelta(seconds=5)
    soft_reboot: SoftReboot | None = None
    """None: the port is cycled at once."""
    problem: str = ""
    """What is wrong with its entry, naming file, controller and key: it cannot be used. Empty: all is well."""

    @property
    def name(self) -> str:
        """`<kind>/<label>`: names it in reports, locks and logs."""
        return f"{self.kind}/{self.label}"

    @property
    def reads_back(self) -> bool:
        """Whether the device can be asked what state a port is in."""
        return self.driver is None or self.driver.reads_back


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where a machine's power comes from."""

    machine_id: str
    controller: Controller
    port: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """All controllers of one file. No machine occurs twice."""

    controllers: tuple[Controller, ...] = ()
    _outlets: Mapping[str, Outlet] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        outlets = {
            machine_id: Outlet(machine_id, controller, port)
            for controller in self.controllers
            for machine_id, port in controller.ports.items()
        }
        object.__setattr__(self, "_outlets", dict(sorted(outlets.items())))

    def outlet(self, machine_id: str) -> Outlet | None:
        """Where this machine's power comes from; None: not from here."""
        return self._outlets.get(machine_id)

    def __iter__(self) -> Iterator[Outlet]:
        return iter(self._outlets.values())
