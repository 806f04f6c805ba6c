"""What is remembered of one machine: its state, and what it did in each window that is not yet closed. Pure.

A record is all that a change needs to be counted, and a change is counted by replacing one record: a runner that keeps
records safe one by one can lose or double nothing. The row's version tells a repeat. Changes of one machine come in order;
those of different machines may come in any.

Times are milliseconds since 1970, because they are compared, subtracted and stored in great numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import orjson

from pipeline.statistics.durations import bucket_of
from pipeline.statistics.observation import Observation
from schemas.health import ABLE, Health

STATES: Final = tuple(Health)
_NUMBER: Final = {state: number for number, state in enumerate(STATES)}
_IDLE: Final = (0,) * len(STATES)
_DAY_MS: Final = 86_400_000
MAX_TURNS: Final = 20
"""So many of the latest turns are remembered."""


@dataclass(frozen=True, slots=True)
class Span:
    """A machine in one window, up to its latest change there."""

    start: int
    """Of the window."""
    until: int
    """Time is accounted for up to here; from here on the machine is in `health`."""
    health: Health | None
    pool: str
    failed_at: int | None
    """Since when it has not been well; None while it is."""
    turns: tuple[int, ...]
    """When it last failed or came back."""
    spent: tuple[int, ...]
    """Milliseconds in each of `STATES`."""
    changes: int
    recoveries: tuple[tuple[int, int], ...]
    """Buckets of how long recoveries took, and how many there were of each."""

    def spent_until(self, moment: int) -> tuple[int, ...]:
        """Milliseconds in each state up to then."""
        if self.health is None:
            return self.spent
        spent = list(self.spent)
        spent[_NUMBER[self.health]] += moment - self.until
        return tuple(spent)

    def is_gone(self, start: int) -> bool:
        """Whether the machine was deleted more than a day before a window: then nothing is told of it, remembered or not."""
        return self.health is None and self.until < start - _DAY_MS

    def following(self, start: int) -> Self:
        """The same machine at the start of a later window."""
        return replace(self, start=start, until=start, spent=_IDLE, changes=0, recoveries=())


@dataclass(frozen=True, slots=True)
class Record:
    """One machine."""

    version: int
    """Of the latest change."""
    floor: int
    """Windows that begin before are closed."""
    window_ms: int
    spans: tuple[Span, ...]
    """Oldest first; one for each window with a change. The first may be of a closed window: how things stood then."""

    def span_of(self, start: int) -> Span | None:
        """The last span that does not begin after the window; None: nothing was known of the machine by then."""
        return next((span for span in reversed(self.spans) if span.start <= start), None)

    def is_gone(self, floor: int) -> bool:
        """Whether no window from there on has any use for it."""
        return self.spans[-1].is_gone(floor)

    def to_json(self) -> bytes:
        """For whoever keeps it."""
        spans = [
            (
                each.start,
                each.until,
                each.health,
                each.pool,
                each.failed_at,
                each.turns,
                each.spent,
                each.changes,
                each.recoveries,
            )
            for each in self.spans
        ]
        return orjson.dumps([self.version, self.floor, self.window_ms, spans])

    @classmethod
    def from_json(cls, text: bytes, *, window_ms: int) -> Self:
        """What `to_json` wrote. If windows had another length then, only how things stood in the end is kept."""
        version, floor, written_ms, spans = orjson.loads(text)
        if written_ms != window_ms:
            return cls(version, floor, window_ms, (replace(_span(spans[-1]), start=0),))
        return cls(version, floor, window_ms, tuple(map(_span, spans)))


def _span(parsed: Sequence[Any]) -> Span:
    start, until, health, pool, failed_at, turns, spent, changes, recoveries = parsed
    known = None if health is None else Health(health)
    counts = tuple((bucket, count) for bucket, count in recoveries)
    return Span(start, until, known, pool, failed_at, tuple(turns), tuple(spent), changes, counts)


def applied(record: Record | None, news: Observation, *, window_ms: int, floor: int) -> Record | None:
    """The record after a change; None when the change is a repeat or older than what is known.

    A change that comes after its window was closed still counts for the machine's state from then on.
    """
    if record is None:
        begin = news.at - news.at % window_ms
        unknown = Span(begin, news.at, None, "", None, (), _IDLE, 0, ())
        return Record(news.version, floor, window_ms, (_after(unknown, news, news.at),))
    if news.version <= record.version:
        return None
    *earlier, last = record.spans
    at = max(news.at, last.until)  # clocks of brokers differ a little
    start = at - at % window_ms
    if start > last.start:
        earlier.append(last)
        last = last.following(start)
    spans = (*earlier, _after(last, news, at))
    return Record(news.version, floor, window_ms, _open(spans, floor))


def _after(span: Span, news: Observation, at: int) -> Span:
    """The span with one more change, which comes at this time."""
    failed_at = _failing_since(span, news, at)
    return Span(
        start=span.start,
        until=at,
        health=news.health,
        pool=span.pool if news.health is None else news.pool,  # who is gone is missed by its own pool
        failed_at=failed_at,
        turns=_turns(span, news, failed_at, at),
        spent=span.spent_until(at),
        changes=span.changes + 1,
        recoveries=_recoveries(span, news, at),
    )


def _failing_since(span: Span, news: Observation, at: int) -> int | None:
    """From the first fault until tasks may run again; maintenance neither begins nor ends it."""
    if news.health is None or news.health in ABLE:
        return None
    if span.failed_at is not None:
        return span.failed_at
    return at if news.is_faulty else None


def _turns(span: Span, news: Observation, failed_at: int | None, at: int) -> tuple[int, ...]:
    if news.health is None or span.health is None:
        return ()
    if (failed_at is None) == (span.failed_at is None):
        return span.turns
    return (*span.turns, at)[-MAX_TURNS:]


def _recoveries(span: Span, news: Observation, at: int) -> tuple[tuple[int, int], ...]:
    if span.failed_at is None or news.health not in ABLE:
        return span.recoveries
    counts = dict(span.recoveries)
    bucket = bucket_of(at - span.failed_at)
    counts[bucket] = counts.get(bucket, 0) + 1
    return tuple(sorted(counts.items()))


def _open(spans: tuple[Span, ...], floor: int) -> tuple[Span, ...]:
    """Without what only closed windows need: of their spans the last one stays, which the next window begins with."""
    closed = sum(span.start < floor for span in spans)
    return spans[max(0, closed - 1) :]
