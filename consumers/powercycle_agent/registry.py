"""Which kinds of controllers there are: whatever the installed packages announce as entry points.

A kind's module is imported when a configuration first names it, so that nobody pays for the drivers of other labs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from pydantic import ValidationError

from consumers.powercycle_agent.drivers.errors import DriverError
from consumers.powercycle_agent.drivers.protocol import ENTRY_POINTS, DriverKind, PowerDriver
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.drivers.settings import ControllerSettings
from consumers.powercycle_agent.inventory import Controller

_CLOSING_S: Final = 5.0


class BrokenKind(Exception):
    """A kind is announced, but cannot be had. The text names the package and says what to do."""


@dataclass(frozen=True, slots=True)
class _Announced:
    """An entry point that has not been looked behind yet. More than one under a name is an error."""

    entries: tuple[EntryPoint, ...]


class Registry:
    """The kinds by name."""

    def __init__(self, kinds: Mapping[str, DriverKind] | None = None) -> None:
        """Just these; `installed` makes the usual one."""
        self._known: dict[str, DriverKind | _Announced] = dict(kinds or {})

    @classmethod
    def installed(cls, entries: Iterable[EntryPoint] | None = None) -> Registry:
        """Whatever the packages in this environment announce."""
        found: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=ENTRY_POINTS) if entries is None else entries:
            same = found.setdefault(entry.name, [])
            if all((entry.value, _package(entry)) != (other.value, _package(other)) for other in same):
                same.append(entry)
        registry = cls()
        registry._known = {name: _Announced(tuple(found[name])) for name in found}
        return registry

    @property
    def names(self) -> list[str]:
        """Sorted; some of them may turn out to be broken."""
        return sorted(self._known)

    def origin(self, name: str) -> str:
        """Which package announces the kind, such as `labkeeper 0.1.0`; empty when it was given by hand."""
        known = self._known[name]
        return " and ".join(map(_package, known.entries)) if isinstance(known, _Announced) else ""

    def kind(self, name: str) -> DriverKind:
        """The kind of this name, which must be one of `names`. Raises `BrokenKind`."""
        known = self._known[name]
        if isinstance(known, _Announced):
            known = self._known[name] = _load(name, known.entries)
        return known


def _load(name: str, entries: tuple[EntryPoint, ...]) -> DriverKind:
    if len(entries) > 1:
        packages = " and ".join(map(_package, entries))
        raise BrokenKind(f"{packages} each bring a driver named {name!r}: uninstall one of them")
    entry = entries[0]
    place = f"the driver {name!r} of {_package(entry)} ({entry.value})"
    try:
        kind = entry.load()
    except Exception as error:
        raise BrokenKind(
            f"{place} cannot be loaded: {type(error).__name__}: {error}; update or uninstall that package"
        ) from error
    if not isinstance(kind, DriverKind):
        raise BrokenKind(f"{place} is no DriverKind but a {type(kind).__name__}: update that package")
    return kind


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown package"


def check_settings(kind: DriverKind, entry: Mapping[str, Any]) -> ControllerSettings:
    """Settings of a controller. Raises pydantic's `ValidationError` for an entry that is wrong, and `BrokenKind` when
    the driver's own checks fail to judge it.
    """
    try:
        return kind.settings.model_validate(entry)
    except ValidationError:
        raise
    except Exception as error:  # the error's text may show the entry, with its password
        raise BrokenKind(
            f"the driver {kind.name!r} cannot read this entry ({type(error).__name__}): tell whoever made the driver"
        ) from error


async def close_driver(driver: PowerDriver) -> None:
    """Let its connections go. One that takes long over that is left to itself."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSING_S):
            await driver.close()


def open_driver(controller: Controller, secrets: Secrets) -> PowerDriver:
    """Make the driver of a controller. Touches neither network nor disk; raises `DriverError`s and nothing else."""
    if controller.driver is None or controller.settings is None:
        raise DriverError(controller.problem)
    try:
        return controller.driver.open(controller.settings, secrets)
    except DriverError:
        raise
    except Exception as error:
        raise DriverError(
            f"the driver {controller.kind!r} of {controller.name} does not start: {type(error).__name__}: {error}"
        ) from error
