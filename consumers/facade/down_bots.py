"""Which machines the older power system's clients should cycle: `/down_bots`, as its power site served it.

Listed are machines that are silent, or miss their device, and whose power some agent has, of this system or the older one.
One in maintenance is listed as silenced: a person looks after it, so that `powercycle --auto_fix` must leave it alone as much as one in a silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from consumers.facade.power import PoweredStore
from pipeline.healing.view import trouble_of
from pipeline.store.power_protocol import Silences
from pipeline.store.protocol import Query
from schemas.api import (
    DEVICE_MISSING,
    DEVICE_SUFFIX,
    HOST_MISSING,
    JUMPHOST_PREFIX,
    BotDimension,
    DownBot,
)
from schemas.description import Description, PowerCycleState
from schemas.health import Health
from schemas.power import PowerOutlet
from schemas.silence import Silence

_WIRED: Final = frozenset({PowerCycleState.AVAILABLE, PowerCycleState.IN_ERROR})
"""To the power site a machine was wired when a configuration named it, whether or not its controller answered."""


async def find_down_bots(store: PoweredStore, silences: Silences, now: datetime) -> Sequence[DownBot]:
    """Machines whose power should be cycled, by id. Raises `StoreUnavailable`."""
    outlets = {each.machine_id: each for each in await store.power_outlets()}
    down = (await store.list(Query(health=[Health.DOWN]))).machines
    recovering = (await store.list(Query(health=[Health.RECOVERING]))).machines
    lasting = await silences.silences(now=now)
    machines = {each.dimension("id")[0]: each for each in (*recovering, *down)}
    found = (_bot(machine_id, machines[machine_id], outlets, lasting, now) for machine_id in sorted(machines))
    return [each for each in found if each is not None]


def _bot(
    machine_id: str,
    machine: Description,
    outlets: Mapping[str, PowerOutlet],
    silences: Sequence[Silence],
    now: datetime,
) -> DownBot | None:
    trouble = trouble_of(machine)
    outlet = outlets.get(machine_id)
    if not machine.is_down:
        outlet = outlets.get(machine_id + DEVICE_SUFFIX, outlet)
    state = machine.power_cycle_state if outlet is None else outlet.state
    if trouble is None or state not in _WIRED:
        return None
    hushed = any(each.covers(machine_id, machine.dimension("pool"), now=now) for each in silences)
    return DownBot(
        bot_id=machine_id,
        host_id="" if outlet is None else _host_of(outlet.agent),
        dimensions=[
            BotDimension(key=key, value=values or [])
            for key, values in sorted((machine.dimensions or {}).items())
        ],
        status=HOST_MISSING if machine.is_down else DEVICE_MISSING,
        since=machine.down_since if machine.is_down else trouble.since,
        silenced=machine.in_maintenance or hushed,
    )


def _host_of(agent: str) -> str:
    return agent if agent.startswith(JUMPHOST_PREFIX) else JUMPHOST_PREFIX + agent
