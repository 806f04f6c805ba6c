"""What one undisturbed reader, alone with the topic, makes of it: the standard that every failure is measured by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consumers.description_writer.decode import EventChange, decode_all
from pipeline.broker.protocol import Received
from pipeline.processor.pools import Pools
from pipeline.store.memory import MemoryStore
from schemas.changes import HistoryEntry
from schemas.description import Description

_ALL_LINES = 1_000_000


@dataclass(frozen=True, slots=True)
class Replay:
    """The outcome of a topic, read from its beginning by one reader that nothing happens to."""

    rows: Mapping[str, Description]
    history: Mapping[str, Sequence[HistoryEntry]]
    """Oldest first."""
    repeated: int
    """Events that a machine's sequence shows to be in the topic more than once."""
    rejected: Mapping[tuple[int, int], str]
    """Partition and offset of what must become a dead letter, and why."""


async def replay(messages: Sequence[Received], pools: Pools) -> Replay:
    """Fold the topic, machine by machine; `messages` are in order within each partition."""
    changes, rejected = decode_all(messages)
    by_machine: dict[str, list[EventChange]] = {}
    for change in changes:
        by_machine.setdefault(change.machine_id, []).append(change)
    store = MemoryStore(pools=pools)
    for machine_id, steps in by_machine.items():
        await store.update_many({machine_id: steps}, now=steps[0].message.published_at)
    return Replay(
        rows={machine.dimension("id")[0]: machine for machine in (await store.list()).machines},
        history={
            machine_id: (await store.history(machine_id, limit=_ALL_LINES))[::-1] for machine_id in by_machine
        },
        repeated=sum(each.outcome is not None and each.outcome.replayed for each in changes),
        rejected={(message.partition, message.offset): reason for message, reason in rejected},
    )
