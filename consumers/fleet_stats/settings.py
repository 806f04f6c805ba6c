"""Settings of the fleet statistics."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from pipeline.broker.deadletter import RejectLimit
from pipeline.statistics.observation import milliseconds
from pipeline.statistics.tally import Rules

GROUP: Final = "fleet-stats"
"""The consumer group of the plain loop."""
FAUST_GROUP: Final = "fleet-stats-faust"
"""That of the Faust workers: Faust shares out partitions in a way of its own, so the two cannot be members of one group."""
LEASE: Final = "fleet-stats"
"""One process tells at a time; the others stand by."""


class Runner(StrEnum):
    """Who feeds the aggregator."""

    AUTO = "auto"
    """`faust` on Kafka, else `plain`."""
    FAUST = "faust"
    """A Faust app: the state is a table with a changelog topic."""
    PLAIN = "plain"
    """A loop of ours on any broker: the state is a checkpoint in the database."""


@dataclass(frozen=True, slots=True)
class FleetStatsSettings:
    """How windows are cut and told."""

    rules: Rules = field(default_factory=Rules)
    grace: timedelta = timedelta(seconds=5)
    """How long a window stays open after its end: clocks differ, and a message is visible a little after its time."""
    look_every: timedelta = timedelta(seconds=2)
    """How often the state is saved, and looked whether a window can be told."""
    lease: timedelta = timedelta(seconds=15)
    """After so long without a sign of life another process takes over."""
    max_records: int = 10_000
    """In a batch. A broker need not send more than two batches that are not acknowledged, which is when the ledger is saved."""
    max_wait: timedelta = timedelta(milliseconds=500)
    """How long a batch that is not full waits for more; nobody waits for it."""
    reject_limit: RejectLimit = RejectLimit()

    def may_be_due(self, floor: int, now: datetime) -> bool:
        """Whether the window that begins at the floor may be over by now: only then is it worth asking how far we are."""
        return floor + self.rules.window_ms <= milliseconds(now - self.grace)
