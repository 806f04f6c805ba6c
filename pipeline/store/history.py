"""Lines of a machine's history on their way into the database."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ulid import ULID

from pipeline.processor.transition import Difference
from schemas.changes import HistoryEntry


@dataclass(frozen=True, slots=True)
class Line:
    """One difference with its place in the history."""

    machine_id: str
    id: str
    difference: Difference

    def entry(self, *, at: datetime, who: str, why: str) -> HistoryEntry:
        """The line as readers of the history see it."""
        return HistoryEntry(
            id=self.id,
            machine_id=self.machine_id,
            at=at,
            kind=self.difference.kind,
            who=who,
            before=self.difference.before,
            after=self.difference.after,
            why=why,
        )


def lines(machine_id: str, differences: Sequence[Difference], *, now: datetime, version: int) -> list[Line]:
    """The differences with ids that sort by time, then by `version` of the row, then by their order here.

    So the lines of one machine keep their order within a millisecond, whichever processes wrote them. The last 24 bits
    are random.
    """
    milliseconds = int(now.timestamp() * 1000)
    prefix = milliseconds.to_bytes(6) + (version % 2**40).to_bytes(5)
    return [
        Line(
            machine_id,
            str(ULID.from_bytes(prefix + min(step, 0xFFFF).to_bytes(2) + secrets.token_bytes(3))),
            difference,
        )
        for step, difference in enumerate(differences)
        if difference.is_line
    ]
