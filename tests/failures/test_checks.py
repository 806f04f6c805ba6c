"""The checks find what they look for: an undisturbed lab gives no complaint, and each kind of damage is called by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

import pytest

from consumers.description_writer.service import DescriptionWriter
from consumers.description_writer.settings import WriterSettings
from consumers.fleet_stats.publication import message_of
from pipeline.broker.memory import MemoryBroker
from pipeline.broker.protocol import Received
from pipeline.clock import ManualClock
from pipeline.processor import operators
from pipeline.processor.pools import Pools
from pipeline.statistics.ledger import Ledger
from pipeline.statistics.observation import milliseconds, observed
from pipeline.statistics.tally import Rules
from pipeline.store.memory import MemoryStore
from schemas.changes import ChangeKind, MachineChange
from schemas.topics import MACHINE_CHANGES
from tests.failures.checks import NONE, complaints
from tests.failures.evidence import Evidence, Standing, gather, rows_of, unread
from tests.failures.workload import POOLS, SILENT, Workload, number_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WORKLOAD = Workload(messages=3000, machines=40)
VICTIM = "phone-0001"
ACTED_ON = "host-0005"


class Lab:
    """A lab in memory, in which nothing goes wrong unless it is told to."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.store = MemoryStore(pools=Pools(POOLS), clock=self.clock)
        self.broker = MemoryBroker(clock=self.clock)

    async def run(self) -> Evidence:
        """Publish the workload, process it, let an operator and the watchdog act, and gather the evidence."""
        await self.publish()
        await self.write()
        act = partial(operators.set_note, message="a note", user="ann", now=NOW)
        await self.store.update(ACTED_ON, act, now=NOW, who="ann")
        for machine_id in SILENT:
            await self.mark_down(machine_id)
        await self.relay()
        await self.count()
        rows = await rows_of(self.store)
        return await gather(
            self.store,
            self.broker,
            published=WORKLOAD.messages,
            listed=rows,
            watched=rows,
            standing={ACTED_ON: Standing(note="a note")},
        )

    async def count(self) -> None:
        """What the fleet statistics do."""
        rules = Rules(window=timedelta(milliseconds=500))
        ledger = Ledger.beginning(rules, at=milliseconds(NOW))
        for message in await self.broker.fetch(MACHINE_CHANGES, limit=100_000):
            at = milliseconds(message.published_at)
            ledger.apply(observed(message.key, message.value, dict(message.headers), at))
        for _, pools in ledger.due(milliseconds(self.clock.now()) + 1000):
            await self.broker.publish([message_of(stats) for stats in pools])

    async def publish(self) -> None:
        messages = islice(WORKLOAD.outgoing(), WORKLOAD.messages)
        while chunk := list(islice(messages, 20)):
            await self.broker.publish(chunk)
            self.clock.advance(timedelta(milliseconds=10))

    async def write(self) -> None:
        settings = WriterSettings(max_records=200, max_wait=timedelta(0))
        stop = asyncio.Event()
        writing = asyncio.create_task(
            DescriptionWriter(self.store, self.broker, self.clock, settings).run(stop)
        )
        async with asyncio.timeout(30):
            while await unread(self.broker):
                await asyncio.sleep(0)
        stop.set()
        await writing

    async def mark_down(self, machine_id: str) -> None:
        since = (await self.store.get(machine_id)).last_updated
        await self.store.update(machine_id, partial(operators.mark_down, since=since), now=self.clock.now())

    async def relay(self) -> None:
        rows = await self.store.take(limit=1000)
        await self.broker.publish([row.message for row in rows])
        await self.store.remove(rows)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """What an undisturbed lab leaves."""
    return asyncio.run(Lab().run())


async def test_an_undisturbed_lab_gives_no_reason_to_complain(evidence: Evidence) -> None:
    assert await complaints(evidence, NONE) == []
    assert len(evidence.dead) == 2
    assert any(row.is_recovering for row in evidence.rows.values())


def _without(messages: Sequence[Received], gone: Callable[[Received], bool]) -> list[Received]:
    kept = [message for message in messages if not gone(message)]
    assert len(kept) == len(messages) - 1
    return kept


def _with_row(evidence: Evidence, machine_id: str, **fields: Any) -> Evidence:
    """The row is another one, and everybody has been told so."""
    row = evidence.rows[machine_id].evolve(fields)

    def told(message: Received) -> Received:
        change = MachineChange.model_validate_json(message.value)
        if (change.id, change.version) != (machine_id, row.row_version):
            return message
        return replace(
            message, value=change.model_copy(update={"description": row}).model_dump_json().encode()
        )

    rows = {**evidence.rows, machine_id: row}
    return replace(evidence, rows=rows, listed=rows, watched=rows, changes=list(map(told, evidence.changes)))


def _version_of(message: Received) -> tuple[str, int]:
    change = MachineChange.model_validate_json(message.value)
    return change.id, change.version


def _lose_an_event(evidence: Evidence) -> Evidence:
    return replace(
        evidence, events=_without(evidence.events, lambda message: number_of(message.headers) == 2987)
    )


def _lose_a_dead_letter(evidence: Evidence) -> Evidence:
    return replace(evidence, dead=evidence.dead[1:])


def _park_a_good_event(evidence: Evidence) -> Evidence:
    letter = evidence.dead[0]
    return replace(
        evidence, dead=[*evidence.dead, replace(letter, headers={**letter.headers, "dead_offset": "0"})]
    )


def _lose_the_last_effect(evidence: Evidence) -> Evidence:
    row = evidence.rows[VICTIM]
    return _with_row(evidence, VICTIM, monitor_sequence=row.monitor_sequence - 1)


def _go_back_in_time(evidence: Evidence) -> Evidence:
    row = evidence.rows["old-0002"]
    return _with_row(evidence, "old-0002", last_updated=row.last_updated - timedelta(milliseconds=20))


def _undo_an_action(evidence: Evidence) -> Evidence:
    row = evidence.rows[ACTED_ON]
    return _with_row(evidence, ACTED_ON, note=row.note.model_copy(update={"message": ""}))


def _lose_a_row(evidence: Evidence) -> Evidence:
    rows = {name: row for name, row in evidence.rows.items() if name != VICTIM}
    return replace(evidence, rows=rows, listed=rows, watched=rows)


def _double_a_step(evidence: Evidence) -> Evidence:
    lines = list(evidence.history[VICTIM])
    return replace(evidence, history={**evidence.history, VICTIM: [*lines[:3], *lines[1:3], *lines[3:]]})


def _forget_a_step(evidence: Evidence) -> Evidence:
    return replace(evidence, history={**evidence.history, VICTIM: evidence.history[VICTIM][:-1]})


def _mark_a_busy_machine_down(evidence: Evidence) -> Evidence:
    first = evidence.history[VICTIM][0]
    mark = first.model_copy(update={"kind": ChangeKind.DOWN, "after": "silent since then"})
    return replace(evidence, history={**evidence.history, VICTIM: [*evidence.history[VICTIM], mark]})


def _overlook_a_silent_machine(evidence: Evidence) -> Evidence:
    return _with_row(evidence, SILENT[3], down_since=evidence.rows[VICTIM].down_since)


def _lose_a_change(evidence: Evidence) -> Evidence:
    return replace(
        evidence, changes=_without(evidence.changes, lambda message: _version_of(message) == (VICTIM, 2))
    )


def _lose_the_newest_change(evidence: Evidence) -> Evidence:
    newest = (VICTIM, evidence.rows[VICTIM].row_version)
    return replace(
        evidence, changes=_without(evidence.changes, lambda message: _version_of(message) == newest)
    )


def _use_a_version_twice(evidence: Evidence) -> Evidence:
    second = next(message for message in evidence.changes if _version_of(message) == (VICTIM, 2))
    change = MachineChange.model_validate_json(second.value)
    other = change.model_copy(update={"description": change.description.evolve({"battery": 1})})
    return replace(
        evidence, changes=[*evidence.changes, replace(second, value=other.model_dump_json().encode())]
    )


def _lose_a_window(evidence: Evidence) -> Evidence:
    return replace(evidence, windows=[*evidence.windows[:1], *evidence.windows[2:]])


def _lose_the_last_windows(evidence: Evidence) -> Evidence:
    return replace(evidence, windows=evidence.windows[:2])


def _miscount_a_window(evidence: Evidence) -> Evidence:
    *others, last = evidence.windows
    return replace(evidence, windows=[*others, last.model_copy(update={"changes": last.changes + 1})])


def _retell_a_window(evidence: Evidence) -> Evidence:
    again = evidence.windows[1].model_copy(update={"recoveries": 99})
    return replace(evidence, windows=[*evidence.windows, again])


def _outdate(view: Mapping[str, Any]) -> dict[str, Any]:
    return {**view, VICTIM: view[VICTIM].evolve({"row_version": 1})}


DAMAGE: Mapping[Callable[[Evidence], Evidence], str] = {
    _lose_an_event: "event 2987 was acknowledged to its sender and is not on the topic",
    lambda evidence: replace(evidence, unread=3): "3 events have not been acknowledged by the writers",
    _lose_a_dead_letter: "is in no row and not among the dead letters",
    _park_a_good_event: "is among the dead letters for no reason",
    _lose_the_last_effect: f"{VICTIM}: monitor_sequence is ",
    _go_back_in_time: "old-0002: last_updated is ",
    _undo_an_action: f"{ACTED_ON}: the note is '', not 'a note'",
    _lose_a_row: f"{VICTIM}: no row",
    _double_a_step: f"{VICTIM}: the history has ",
    _forget_a_step: f"{VICTIM}: the history has ",
    _mark_a_busy_machine_down: f"{VICTIM}: marked down at ",
    _overlook_a_silent_machine: f"{SILENT[3]}: down_since is 0001",
    _lose_a_change: f"{VICTIM}: no change tells of the versions [2]",
    _lose_the_newest_change: f"{VICTIM}: the newest change tells version ",
    _lose_a_window: "no window tells of the time from ",
    _lose_the_last_windows: "no window tells of the last change, at ",
    _miscount_a_window: " changes, there were ",
    _retell_a_window: " has been told twice, and not the same",
    _use_a_version_twice: f"{VICTIM}: two states have been told as version 2",
    lambda evidence: replace(
        evidence, listed=_outdate(evidence.listed)
    ): f"{VICTIM}: the façade's listing tells version 1",
    lambda evidence: replace(
        evidence, watched=_outdate(evidence.watched)
    ): f"{VICTIM}: the façade's event stream tells",
    lambda evidence: replace(evidence, backwards=["m: told backwards"]): "m: told backwards",
    lambda evidence: replace(evidence, outbox=2): "2 messages are left in the outbox",
}


@pytest.mark.parametrize(
    ("damage", "complaint"), DAMAGE.items(), ids=[complaint[:30] for complaint in DAMAGE.values()]
)
async def test_damage_is_called_by_its_name(
    evidence: Evidence, damage: Callable[[Evidence], Evidence], complaint: str
) -> None:
    found = await complaints(damage(evidence), NONE)
    assert any(complaint in each for each in found), found
