"""The records of many machines, and which of their windows are closed. Pure.

Windows are told in order and once each: the floor is where the next one to be told begins. A runner decides up to when
everything has been read; telling a window again, from the same records, tells the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from pipeline.statistics.observation import Observation
from pipeline.statistics.record import Record, applied
from pipeline.statistics.tally import Rules, merged, stats_of, tallies
from schemas.fleet_stats import FleetStats

_FORMAT: Final = 1


@dataclass(slots=True)
class Ledger:
    """All machines of a fleet, or of a part of it."""

    rules: Rules
    floor: int
    """Start of the first window that has not been told, in milliseconds since 1970."""
    records: dict[str, Record] = field(default_factory=dict)

    @classmethod
    def beginning(cls, rules: Rules, *, at: int) -> Ledger:
        """Without machines; the first window to be told is the one that holds this moment."""
        return cls(rules, at - at % rules.window_ms)

    def apply(self, news: Observation) -> bool:
        """Count a change; False when it was counted before, or is older than what is known."""
        record = applied(
            self.records.get(news.machine_id), news, window_ms=self.rules.window_ms, floor=self.floor
        )
        if record is None:
            return False
        self.records[news.machine_id] = record
        return True

    def due(self, until: int) -> Iterator[tuple[int, list[FleetStats]]]:
        """The windows that end by then and have not been told, oldest first: where each ends, and its pools."""
        start = self.floor
        while (end := start + self.rules.window_ms) <= until:
            yield end, window_of(self.records, start, self.rules)
            start = end

    def told(self, end: int) -> None:
        """All windows up to this end are safe with whoever they are told."""
        self.floor = max(self.floor, end)

    def forget_gone(self) -> None:
        """Drop machines that were deleted so long before the floor that no older news of them can be under way any more."""
        for machine_id, record in list(self.records.items()):
            if record.is_gone(self.floor):
                del self.records[machine_id]

    def to_json(self) -> bytes:
        """For whoever keeps it."""
        records = {name: orjson.Fragment(record.to_json()) for name, record in self.records.items()}
        return orjson.dumps({"format": _FORMAT, "floor": self.floor, "records": records})

    @classmethod
    def from_json(cls, text: bytes, rules: Rules) -> Ledger:
        """What `to_json` wrote, perhaps under other rules."""
        parsed: dict[str, Any] = orjson.loads(text)
        window_ms = rules.window_ms
        records = {
            name: Record.from_json(orjson.dumps(record), window_ms=window_ms)
            for name, record in parsed["records"].items()
        }
        return cls(rules, -(-parsed["floor"] // window_ms) * window_ms, records)


def window_of(records: dict[str, Record], start: int, rules: Rules) -> list[FleetStats]:
    """One window of all pools, the whole fleet first."""
    together = merged([tallies(records.items(), start, rules)])
    return [stats_of(together[pool], pool, start, rules) for pool in sorted(together)]
