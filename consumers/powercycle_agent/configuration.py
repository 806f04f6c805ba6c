"""Reads `powercycle.json5`: `{<kind>: {<label>: {address, …, ports: {<machine id>: <port>}}}}`.

What is wrong with the file as a whole refuses it: then nobody could say whose port is whose. What is wrong with one
controller's entry spoils that controller only; its machines are reported as in error, and the others work on.
"""

from __future__ import annotations

import difflib
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from consumers.powercycle_agent.drivers.protocol import DriverKind
from consumers.powercycle_agent.drivers.settings import ControllerSettings, Port, SoftReboot
from consumers.powercycle_agent.entry_errors import said_of
from consumers.powercycle_agent.entry_secrets import secrets_in
from consumers.powercycle_agent.inventory import Controller, Inventory
from consumers.powercycle_agent.plain_text import plain, quoted, short
from consumers.powercycle_agent.registry import BrokenKind, Registry, check_settings
from pipeline import logs
from pipeline.errors import Misconfigured
from pipeline.json5_file import KeyPath, KeyPlaces, find_keys, parse_json5, read_text
from schemas.ids import MACHINE_ID_RULE, counting_order, is_machine_id

_MAX_LABEL: Final = 100
_PORT = TypeAdapter[str](Port)
_NOT_THE_DEVICES: Final = {"ports", "delay", "soft_reboot"}
"""What an entry says of our side, and not of the device."""

log = logs.get_logger()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file says."""

    inventory: Inventory
    warnings: tuple[str, ...] = ()
    """What should be seen to, but stops nobody."""
    problems: list[str] = field(default_factory=list)
    """What is wrong with single controllers, one by one."""


def read_inventory(path: Path, registry: Registry) -> Inventory:
    """Read a file; warnings are logged. Raises `Misconfigured` with all that is wrong, a line each, when it cannot be used
    as a whole; a single controller that cannot be used has its `problem` set.
    """
    reading = read_configuration(path, registry)
    for warning in reading.warnings:
        log.warning("power_configuration", path=str(path), warning=warning)
    return reading.inventory


def read_configuration(path: Path, registry: Registry) -> Reading:
    """The same, for those who want to show the warnings themselves."""
    text = read_text(path)
    content = parse_json5(text, str(path))
    file = _File(path, find_keys(text), registry)
    inventory = file.inventory(content)
    warnings = (*_warnings(path, content), *_shared_ports(path, inventory))
    return Reading(inventory, warnings, file.problems)


_Fault = tuple[int, str]
"""A line, and what is wrong there."""


class _File:
    """Goes through one file and gathers what is wrong with it."""

    def __init__(self, path: Path, keys: KeyPlaces, registry: Registry) -> None:
        self._path = path
        self._keys = keys
        self._registry = registry
        self._faults: list[_Fault] = []
        self.problems: list[str] = []
        """What is wrong with single controllers."""
        self._homes: dict[str, KeyPath] = {}
        """Where each machine's port stands."""

    def inventory(self, content: Any) -> Inventory:
        if not isinstance(content, dict):
            raise Misconfigured(f"{self._path}: expected an object, such as {{ edgeswitch: {{ … }} }}")
        self._find_twice()
        controllers = [
            controller for name, entries in content.items() for controller in self._controllers(name, entries)
        ]
        if self._faults:
            raise Misconfigured("\n".join(_texts(self._faults)))
        return Inventory(tuple(controllers))

    def _fault(self, at: KeyPath, text: str) -> None:
        self._faults.append(self._place(at, text))

    def _place(self, at: KeyPath, text: str) -> _Fault:
        place = "/".join(short(part) for part in at[:2])
        key = ".".join(short(part) for part in at[2:])
        line = self._keys.line_of(at)
        parts = [f"{self._path}:{line}", place, key, plain(text)]
        return line, ": ".join(part for part in parts if part)

    def _find_twice(self) -> None:
        for twice in self._keys.twice:
            first = f"It stands on line {twice.first_line}, too"
            if _is_machine(twice.path):
                self._fault(twice.path[:3], f"{_exists(twice.path[3])} {first}: a machine has one port")
            elif len(twice.path) <= 2:
                self._fault(twice.path, f"the same name twice. {first}: rename or remove one")

    def _controllers(self, name: str, entries: Any) -> Iterable[Controller]:
        if name not in self._registry.names:
            self._fault((name,), unknown_kind(name, self._registry.names))
            return
        if entries is None:
            return
        if not isinstance(entries, dict):
            self._fault((name,), "expected an object of controllers, label by label")
            return
        for label, entry in entries.items():
            if not label.strip() or len(label) > _MAX_LABEL or not label.isprintable():
                self._fault((name, label), f"a label has 1 to {_MAX_LABEL} printable characters")
            else:
                yield self._controller(name, label, entry)

    def _controller(self, name: str, label: str, entry: Any) -> Controller:
        at = (name, label)
        ports, problems = self._ports(at, entry)
        problems += self._twice_within(at)
        kind: DriverKind | None = None
        settings: ControllerSettings | None = None
        try:
            kind = self._registry.kind(name)
            settings = check_settings(kind, entry) if isinstance(entry, dict) else None
        except BrokenKind as error:
            problems.append(self._place(at, str(error)))
        except ValidationError as error:
            assert kind is not None  # it has judged the entry
            problems += [
                self._place((*at, *wrong.path), wrong.text) for wrong in said_of(error, entry, kind.settings)
            ]
        if problems or kind is None or settings is None:
            texts = list(_texts(problems))
            self.problems += texts
            return Controller(name, label, ports, problem="; ".join(texts))
        delay = kind.off_for if settings.delay is None else timedelta(seconds=settings.delay)
        return Controller(name, label, ports, kind, settings, delay, _soft_reboot(kind, settings))

    def _ports(self, at: KeyPath, entry: Any) -> tuple[dict[str, str], list[_Fault]]:
        """Whatever ports can be read, even if the rest of the entry cannot, and what is wrong with the machines' ids."""
        if not isinstance(entry, dict):
            return {}, [self._place(at, "expected an object: { address: …, ports: { … } }")]
        given = entry.get("ports")
        ports: dict[str, str] = {}
        problems: list[_Fault] = []
        found = given.items() if isinstance(given, dict) else ()
        for machine_id, port in sorted(found, key=lambda each: counting_order(each[0])):
            here = (*at, "ports", machine_id)
            if not is_machine_id(machine_id):
                rule = f"{quoted(machine_id)} cannot be a machine's id: that has {MACHINE_ID_RULE}"
                problems.append(self._place(here[:3], rule))
                continue
            self._claim(machine_id, here)
            try:
                ports[machine_id] = _PORT.validate_python(port)
            except ValidationError:
                continue  # the settings' own check says so
        return ports, problems

    def _claim(self, machine_id: str, here: KeyPath) -> None:
        home = self._homes.setdefault(machine_id, here)
        if home != here:
            other = f"It hangs on {home[0]}/{home[1]} (line {self._keys.line_of(home)}), too"
            self._fault(here[:3], f"{_exists(machine_id)} {other}: a machine has one port")

    def _twice_within(self, at: KeyPath) -> list[_Fault]:
        return [
            self._place(
                twice.path, f"the same key twice. It stands on line {twice.first_line}, too: remove one"
            )
            for twice in self._keys.twice
            if twice.path[:2] == at and len(twice.path) > 2 and not _is_machine(twice.path)
        ]


def _texts(faults: Iterable[_Fault]) -> Iterable[str]:
    return (text for _, text in sorted(dict.fromkeys(faults), key=itemgetter(0)))


def _is_machine(path: KeyPath) -> bool:
    return len(path) == 4 and path[2] == "ports"


def _exists(machine_id: str | int) -> str:
    return f"Device {quoted(machine_id)} already exists."


def unknown_kind(name: str, known: list[str]) -> str:
    """What to say of a kind that there is not."""
    close = difflib.get_close_matches(name.lower(), known, n=2, cutoff=0.6)
    hint = f" (did you mean {' or '.join(close)}?)" if close else ""
    return f"there is no kind of controller with this name{hint}; there are: {', '.join(known) or 'none'}"


def _soft_reboot(kind: DriverKind, settings: ControllerSettings) -> SoftReboot | None:
    wanted = kind.soft_reboot if settings.soft_reboot is None else settings.soft_reboot
    if isinstance(wanted, SoftReboot):
        return wanted
    return SoftReboot() if wanted else None


def _shared_ports(path: Path, inventory: Inventory) -> Iterable[str]:
    """Ports with several machines, of which each goes dark with the others."""
    found: dict[tuple[int, str], list[str]] = {}
    devices: list[tuple[str, dict[str, Any]]] = []
    for controller in inventory.controllers:
        if controller.settings is None:
            continue
        device = (controller.kind, controller.settings.model_dump(exclude=_NOT_THE_DEVICES))
        if device not in devices:  # two labels may mean one
            devices.append(device)
        for machine_id, port in controller.ports.items():
            found.setdefault((devices.index(device), port), []).append(f"{machine_id} ({controller.name})")
    for (_, port), machines in found.items():
        if len(machines) > 1:
            yield f"{path}: port {short(port)} has several machines, and who cycles one cycles all: {', '.join(machines)}"


def _warnings(path: Path, content: Mapping[str, Any]) -> Iterable[str]:
    try:
        mode = path.stat().st_mode
    except OSError:  # it was read, and has been replaced or taken away since
        return
    everybody = stat.S_ISREG(mode) and mode & stat.S_IROTH
    if everybody and any(secrets_in(content)):
        yield f"{path} holds passwords, and every user of this computer can read it: chmod o-r {path}"
