"""Names of the topics. A message's key is the machine id, or on `fleet.stats` the pool: it decides the partition, and so the order.

On Kafka that is the record's key. On Pub/Sub the key is the attribute `labkeeper_key`, and the ordering key is the number of the
partition that the key hashes to: all machines of a partition share one order (docs/decisions/012-pubsub.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

DEFAULT_PREFIX: Final = "labkeeper"
DEAD_SUFFIX: Final = ".dead"
_PREFIX: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")

MACHINE_EVENTS: Final = "machine.events"
MACHINE_CHANGES: Final = "machine.changes"
POWER_COMMANDS: Final = "power.commands"
POWER_RESULTS: Final = "power.results"
FLEET_STATS: Final = "fleet.stats"
"""Its key is the pool, `*` for the whole fleet."""


@dataclass(frozen=True, slots=True)
class Topic:
    """What a broker must know to create a topic."""

    name: str
    """Without prefix, such as `machine.events`."""
    partitions: int
    """Parallelism: one consumer of a group per partition at most. Order holds within one."""
    retention: timedelta
    """How long a message can be replayed at least."""
    compacted: bool = False
    """Keep at least the newest message of each key for ever (brokers that can)."""


TOPICS: Final = (
    Topic(MACHINE_EVENTS, partitions=8, retention=timedelta(days=2)),
    Topic(MACHINE_CHANGES, partitions=8, retention=timedelta(days=7), compacted=True),
    Topic(MACHINE_EVENTS + DEAD_SUFFIX, partitions=1, retention=timedelta(days=30)),
    Topic(MACHINE_CHANGES + DEAD_SUFFIX, partitions=1, retention=timedelta(days=30)),
    Topic(POWER_COMMANDS, partitions=1, retention=timedelta(days=7)),
    Topic(POWER_RESULTS, partitions=1, retention=timedelta(days=7)),
    Topic(POWER_COMMANDS + DEAD_SUFFIX, partitions=1, retention=timedelta(days=30)),
    Topic(POWER_RESULTS + DEAD_SUFFIX, partitions=1, retention=timedelta(days=30)),
    Topic(FLEET_STATS, partitions=1, retention=timedelta(days=30)),
)


def check_prefix(prefix: str) -> str:
    """Return `prefix` if every broker takes names that begin with it; raise ValueError otherwise."""
    if not _PREFIX.fullmatch(prefix):
        raise ValueError("a prefix has 1 to 100 letters, digits, '.', '_' or '-', and begins with a letter")
    return prefix


def dead_letters_of(topic: str) -> str:
    """The topic that keeps what a consumer of `topic` could not process."""
    return topic + DEAD_SUFFIX
