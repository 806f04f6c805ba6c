"""What is left after a failure test, gathered for the checks: topics, rows, history, and what clients were told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ulid import ULID

from consumers.description_writer.settings import GROUP
from pipeline.broker.protocol import Broker, Received
from pipeline.store.protocol import Outbox, Store
from schemas.changes import HistoryEntry
from schemas.description import Description
from schemas.fleet_stats import WHOLE_FLEET, FleetStats
from schemas.topics import FLEET_STATS, MACHINE_CHANGES, MACHINE_EVENTS, dead_letters_of

_AT_ONCE: Final = 5000
_ALL_LINES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Standing:
    """What the operators' acknowledged actions on a machine must have left."""

    note: str = ""
    maintenance: str = ""
    """The reason; empty when the machine is not in maintenance."""
    power_cycle: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the checks look at."""

    published: int
    """Messages of the workload that the broker has acknowledged: the numbers below this one."""
    events: Sequence[Received]
    changes: Sequence[Received]
    dead: Sequence[Received]
    windows: Sequence[FleetStats]
    """Of the whole fleet, as they were told; none where nobody tells them."""
    rows: Mapping[str, Description]
    history: Mapping[str, Sequence[HistoryEntry]]
    """In the order in which the rows were written."""
    listed: Mapping[str, Description]
    """What the façade answers when asked for all machines."""
    watched: Mapping[str, Description]
    """What a client of the event stream has been told of each machine last."""
    backwards: Sequence[str] = ()
    """What the event stream told of a machine after something newer."""
    standing: Mapping[str, Standing] = field(default_factory=dict)
    """Of the machines that operators acted on."""
    unread: int = 0
    """Events that the writers have not acknowledged."""
    outbox: int = 0


class EvidenceStore(Store, Outbox, Protocol):
    """What the evidence is taken from."""


async def gather(store: EvidenceStore, broker: Broker, **seen: Any) -> Evidence:
    """What store and broker hold. The rest, what clients did and were told, is in `seen`, by the names of its fields."""
    rows = await rows_of(store)
    histories = await asyncio.gather(*(_history(store, machine_id) for machine_id in rows))
    return Evidence(
        events=await _read(broker, MACHINE_EVENTS),
        changes=await _read(broker, MACHINE_CHANGES),
        dead=await _read(broker, dead_letters_of(MACHINE_EVENTS)),
        windows=await told_windows(broker),
        rows=rows,
        history=dict(zip(rows, histories, strict=True)),
        unread=await unread(broker),
        outbox=len(await store.take(limit=_ALL_LINES)),
        **seen,
    )


async def rows_of(store: Store) -> Mapping[str, Description]:
    """All machines."""
    return {machine.dimension("id")[0]: machine for machine in (await store.list()).machines}


async def unread(broker: Broker) -> int:
    """How many events the writers have not acknowledged."""
    return sum(lag.unread for lag in await broker.lag(MACHINE_EVENTS, group=GROUP))


async def told_windows(broker: Broker) -> Sequence[FleetStats]:
    """The fleet statistics of all pools together."""
    messages = await _read(broker, FLEET_STATS)
    return [
        FleetStats.model_validate_json(message.value) for message in messages if message.key == WHOLE_FLEET
    ]


async def _history(store: Store, machine_id: str) -> Sequence[HistoryEntry]:
    """By the row's version and the step within the transaction, which the ids hold."""
    lines = await store.history(machine_id, limit=_ALL_LINES)
    return sorted(lines, key=lambda line: ULID.from_str(line.id).bytes[6:13])


async def _read(broker: Broker, topic: str) -> Sequence[Received]:
    """Everything on a topic, in order within each partition."""
    found: list[Received] = []
    after: dict[int, int] = {}
    while messages := await broker.fetch(topic, after=after, limit=_AT_ONCE):
        found += messages
        for message in messages:
            after[message.partition] = max(message.offset, after.get(message.partition, -1))
    return found
