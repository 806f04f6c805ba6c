"""What must hold after every failure. Each check names what is wrong; no complaint means that nothing is.

What is compared how:

- A row is the fold of the machine's events in the topic, in every field but `row_version`. That one counts transactions,
  and how events were batched is no part of the outcome; it must equal the newest version that was told.
- `last_updated` and all other times of the row are the broker's times of events, so they are compared exactly.
- On a machine that operators acted on, the fields which operators own are compared with their acknowledged actions.
- The history has a line for every step, whichever transaction it was part of: an event that had effect twice shows there
  even where the row does not show it. Times of its lines are those of transactions, and not compared.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from pipeline.processor.normalize import quarantine_message
from pipeline.processor.pools import Pools
from pipeline.processor.recovery import AUTOMATIC_USER
from schemas import envelope
from schemas.changes import ChangeKind, HistoryEntry, MachineChange
from schemas.description import Description, PowerCycleState
from schemas.fleet_stats import FleetStats
from schemas.wire import ZERO_TIME
from tests.failures.evidence import Evidence, Standing
from tests.failures.replay import Replay, replay
from tests.failures.workload import POOLS, SILENT, number_of

PATIENCE: Final = timedelta(seconds=15)
"""How long the machines that are not silent may be so before the watchdog marks them down."""

UNTOLD_BY_A_KILL: Final = 3
"""Batches that a writer may have committed and not published when it is killed: one waits to be handed over, one waits for
the publisher, one is with it."""

_OPERATORS_FIELDS: Final = {
    "maintenance_mode": "",
    "power_cycle": False,
    "power_cycle_state": PowerCycleState.NOT_AVAILABLE.value,
    "power_action": "",
    "power_status": "",
}


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the failure of a scenario may cost."""

    untold_versions: int = 0
    """Transactions per machine that were never told of, because the next one's change tells more: a writer that is killed
    between commit and publishing loses that, and its successor tells the state that it finds."""


NONE: Final = Allowance()


@dataclass(frozen=True, slots=True)
class _Told:
    """A change on the topic, and when the broker took it."""

    change: MachineChange
    at: datetime


async def complaints(evidence: Evidence, allowance: Allowance) -> list[str]:
    """Everything that is not as it must be."""
    expected = await replay(evidence.events, Pools(POOLS))
    told = [
        _Told(MachineChange.model_validate_json(each.value), each.published_at) for each in evidence.changes
    ]
    return [
        *lost_events(evidence),
        *lost_letters(evidence, expected),
        *wrong_rows(evidence, expected),
        *wrong_history(evidence, expected),
        *false_alarms(evidence),
        *wrong_changes(evidence, told, allowance.untold_versions),
        *wrong_windows(evidence, told),
        *wrong_views(evidence),
    ]


# --- (1) every event is accounted for ----------------------------------------------------------------------------------
def lost_events(evidence: Evidence) -> Iterator[str]:
    """What was acknowledged to its sender is on the topic, and the writers have acknowledged all of the topic."""
    numbers = {number_of(message.headers) for message in evidence.events}
    for number in range(evidence.published):
        if number not in numbers:
            yield f"event {number} was acknowledged to its sender and is not on the topic"
    if evidence.unread:
        yield f"{evidence.unread} events have not been acknowledged by the writers"


def lost_letters(evidence: Evidence, expected: Replay) -> Iterator[str]:
    """Exactly what cannot be read has been parked, some of it perhaps twice."""
    parked = {
        (int(letter.headers[envelope.DEAD_PARTITION]), int(letter.headers[envelope.DEAD_OFFSET]))
        for letter in evidence.dead
    }
    for place in sorted(expected.rejected.keys() - parked):
        yield f"the message at {place} is in no row and not among the dead letters"
    for place in sorted(parked - expected.rejected.keys()):
        yield f"the message at {place} is among the dead letters for no reason"


# --- (2) the state is that of a replay ---------------------------------------------------------------------------------
def wrong_rows(evidence: Evidence, expected: Replay) -> Iterator[str]:
    """Rows that differ from the fold of the topic, field by field."""
    for machine_id in sorted(expected.rows.keys() | evidence.rows.keys()):
        row, should = evidence.rows.get(machine_id), expected.rows.get(machine_id)
        if row is None or should is None:
            yield f"{machine_id}: {'no row' if row is None else 'a row out of nothing'}"
            continue
        standing = evidence.standing.get(machine_id)
        if standing is not None:
            yield from _wrong_standing(machine_id, row, standing)
            row, should = _without_operators(row, should)
        is_down = machine_id in SILENT
        if is_down != (row.down_since != ZERO_TIME):
            yield f"{machine_id}: down_since is {row.down_since}"
        same = {"row_version": 0, "down_since": ZERO_TIME}
        yield from _differing(machine_id, row.evolve(same), should.evolve(same))


def _wrong_standing(machine_id: str, row: Description, standing: Standing) -> Iterator[str]:
    if row.note.message != standing.note:
        yield f"{machine_id}: the note is {row.note.message!r}, not {standing.note!r}"
    if row.in_maintenance != bool(standing.maintenance) or not row.maintenance_mode.endswith(
        standing.maintenance
    ):
        yield f"{machine_id}: maintenance is {row.maintenance_mode!r}, not {standing.maintenance!r}"
    if row.power_cycle != standing.power_cycle:
        yield f"{machine_id}: power_cycle is {row.power_cycle}"
    said = row.dimension("quarantined")
    if said != [message for message in [quarantine_message(row)] if message]:
        yield f"{machine_id}: the dimension quarantined is {said}"


def _without_operators(row: Description, should: Description) -> tuple[Description, Description]:
    """Both without what operators decide. An annotation counts if it is not an operator's."""
    annotation = should.annotation if row.annotation.user != AUTOMATIC_USER else row.annotation
    return (
        row.evolve(
            {**_OPERATORS_FIELDS, "note": should.note, "annotation": annotation, **_unquarantined(row)}
        ),
        should.evolve(_unquarantined(should)),
    )


def _unquarantined(row: Description) -> dict[str, object]:
    return {
        "dimensions": {key: value for key, value in (row.dimensions or {}).items() if key != "quarantined"}
    }


def _differing(machine_id: str, row: Description, should: Description) -> Iterator[str]:
    if row == should:
        return
    for field in Description.model_fields:
        have, want = getattr(row, field), getattr(should, field)
        if have != want:
            yield f"{machine_id}: {field} is {have!r}, a replay gives {want!r}"


def wrong_history(evidence: Evidence, expected: Replay) -> Iterator[str]:
    """Machines whose history does not hold each step once and in order."""
    for machine_id, lines in expected.history.items():
        want = [_step(line) for line in lines]
        have = [
            _step(line)
            for line in evidence.history.get(machine_id, ())
            if line.who == AUTOMATIC_USER and line.kind is not ChangeKind.DOWN
        ]
        if have != want:
            at = next(
                (n for n, pair in enumerate(zip(have, want, strict=False)) if pair[0] != pair[1]),
                min(len(have), len(want)),
            )
            yield (
                f"{machine_id}: the history has {len(have)} lines, a replay gives {len(want)}; "
                f"from line {at}: {have[at : at + 2]}, not {want[at : at + 2]}"
            )


def _step(line: HistoryEntry) -> tuple[str, str, str]:
    return line.kind.value, line.before, line.after


def false_alarms(evidence: Evidence) -> Iterator[str]:
    """Machines that were marked down although they were still to report."""
    last: dict[str, datetime] = {}
    for message in evidence.events:
        last[message.key] = max(message.published_at, last.get(message.key, message.published_at))
    for machine_id, lines in evidence.history.items():
        for line in lines:
            is_mark = line.kind is ChangeKind.DOWN and line.after
            if is_mark and machine_id not in SILENT and line.at <= last[machine_id] + PATIENCE:
                yield f"{machine_id}: marked down at {line.at}, and its last report is of {last[machine_id]}"


# --- (3) no change is missing ------------------------------------------------------------------------------------------
def wrong_changes(evidence: Evidence, told: Sequence[_Told], untold_versions: int) -> Iterator[str]:
    """Machines of which readers of the changes do not know everything.

    Versions count the transactions that wrote the row, from 1, so what was told must be all the numbers up to the row's.
    """
    states: dict[str, dict[int, Description]] = defaultdict(dict)
    for change in (each.change for each in told):
        known = states[change.id].setdefault(change.version, change.description)
        if known != change.description:
            yield f"{change.id}: two states have been told as version {change.version}"
    for machine_id in sorted(states.keys() | evidence.rows.keys()):
        row, versions = evidence.rows.get(machine_id), states[machine_id]
        newest = versions[max(versions)] if versions else None
        if newest != row:
            yield f"{machine_id}: the newest change tells {_brief(newest)}, the row is {_brief(row)}"
        elif row is not None:
            missing = sorted(set(range(1, row.row_version + 1)) - versions.keys())
            if len(missing) > untold_versions:
                yield f"{machine_id}: no change tells of the versions {missing}"


def wrong_windows(evidence: Evidence, told: Sequence[_Told]) -> Iterator[str]:
    """Windows of the fleet's statistics that are missing, or do not count each version once.

    A version is counted when it is told for the first time, unless a later one has been told before. What was there before
    the statistics began is nobody's business, so the first window may have less.
    """
    by_start: dict[datetime, FleetStats] = {}
    for stats in evidence.windows:
        if by_start.setdefault(stats.window_start, stats) != stats:
            yield f"the window at {stats.window_start} has been told twice, and not the same"
    windows = [by_start[start] for start in sorted(by_start)]
    times = sorted(_first_told(told))
    for before, window in pairwise(windows):
        if window.window_start != before.window_end:
            yield f"no window tells of the time from {before.window_end} to {window.window_start}"
        there_were = bisect_left(times, window.window_end) - bisect_left(times, window.window_start)
        if window.changes != there_were:
            yield f"the window at {window.window_start} counts {window.changes} changes, there were {there_were}"
    if windows and times and windows[-1].window_end <= times[-1]:
        yield f"no window tells of the last change, at {times[-1]}"


def _first_told(told: Sequence[_Told]) -> Iterator[datetime]:
    newest: dict[str, int] = {}
    for each in told:
        if each.change.version > newest.get(each.change.id, 0):
            newest[each.change.id] = each.change.version
            yield each.at


def wrong_views(evidence: Evidence) -> Iterator[str]:
    """Whether those who ask the façade, and those who listen to it, know what the rows say."""
    for name, view in (("listing", evidence.listed), ("event stream", evidence.watched)):
        for machine_id in sorted(view.keys() | evidence.rows.keys()):
            if view.get(machine_id) != evidence.rows.get(machine_id):
                yield (
                    f"{machine_id}: the façade's {name} tells {_brief(view.get(machine_id))}, "
                    f"the row is {_brief(evidence.rows.get(machine_id))}"
                )
    yield from evidence.backwards
    if evidence.outbox:
        yield f"{evidence.outbox} messages are left in the outbox"


def _brief(row: Description | None) -> str:
    return "nothing" if row is None else f"version {row.row_version} with sequence {row.monitor_sequence}"
