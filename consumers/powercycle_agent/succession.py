"""A port is owed power while the configuration changes: which controller of the new one is to see to it.

The port that is owed is the one that was switched off, wherever its machine hangs by now. Its controller goes by its name, as
the journal has it; where that is gone, by what shows that it was only given another.
"""

from __future__ import annotations

from collections.abc import Collection

from consumers.powercycle_agent.drivers.settings import ControllerSettings
from consumers.powercycle_agent.inventory import Controller, Inventory
from consumers.powercycle_agent.journal import Entry


def home_of(entry: Entry, inventory: Inventory) -> Controller | None:
    """The controller of an entry's port: of that name, or else of that kind with the machine on that port. None: there is none."""
    named = next((each for each in inventory.controllers if each.name == entry.intent.controller), None)
    if named is not None:
        return named
    outlet = inventory.outlet(entry.command.machine_id)
    if outlet is None or outlet.port != entry.intent.port:
        return None
    return outlet.controller if outlet.controller.kind == entry.intent.controller.partition("/")[0] else None


def is_same_device(one: Controller, other: Controller) -> bool:
    """Whether two entries of the configuration surely lead to one device: all that their kind asks for is the same."""
    if one.kind != other.kind or one.settings is None or other.settings is None:
        return False
    ways = [each.settings.model_dump(exclude=_OF_ALL_KINDS) for each in (one, other) if each.settings]
    return bool(ways[0]) and ways[0] == ways[1]


_OF_ALL_KINDS = set(ControllerSettings.model_fields)
"""Which say nothing of where a device is."""


def may_be_same_device(one: Controller, other: Controller) -> bool:
    """The same, and whatever else one of them may owe to the other's ports."""
    if one.kind != other.kind:
        return False
    shared = one.ports.items() & other.ports.items()
    return one.label == other.label or bool(shared) or is_same_device(one, other)


def users_of(entry: Entry, inventory: Inventory) -> Collection[str]:
    """Machines whose commands drive an entry's port today; of a port that nobody drives, the machine that it was for."""
    home = home_of(entry, inventory)
    if home is None:
        return {entry.command.machine_id}
    return {machine_id for machine_id, port in home.ports.items() if port == entry.intent.port}


def advice(entry: Entry) -> str:
    """What a person can do where there is no controller for a port that is owed."""
    intent = entry.intent
    return (
        f"port {intent.port} of {intent.command.machine_id} may be off, and {intent.controller} is not in the configuration: "
        f"put that back, with or without machines, until the port is on; or switch it on yourself, and remove {entry.path}"
    )
