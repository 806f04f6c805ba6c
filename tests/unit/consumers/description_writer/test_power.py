"""The writer's second job: power results in, rows kept, changes out, bad messages parked, nothing lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from consumers.description_writer.power import PowerResults
from consumers.description_writer.settings import GROUP
from pipeline.broker.deadletter import RejectLimit
from pipeline.broker.memory import MemoryBroker
from pipeline.broker.protocol import Outgoing
from pipeline.clock import ManualClock
from pipeline.errors import BrokerUnavailable, Rejected, StoreUnavailable, TooManyRejects
from pipeline.metrics import POWER_REPORTS, POWER_STEPS
from pipeline.store.memory import MemoryStore
from pipeline.store.protocol import Updated
from schemas import envelope
from schemas.changes import MachineChange
from schemas.description import Description, PowerCycleState
from schemas.ids import new_ulid
from schemas.power import (
    ControllerReport,
    PowerAction,
    PowerCommand,
    PowerResult,
    PowerStatus,
    PowerStep,
)
from schemas.topics import MACHINE_CHANGES, POWER_RESULTS, dead_letters_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CYCLE = (PowerStatus.ACCEPTED, PowerStatus.OFF, PowerStatus.ON, PowerStatus.DONE)


def step(of: PowerCommand, status: PowerStatus, **fields: object) -> PowerStep:
    return PowerStep.model_validate(
        {
            "command_id": of.id,
            "machine_id": of.machine_id,
            "status": status,
            "at": NOW,
            "agent": "rack4",
            **fields,
        }
    )


def report(machine_id: str, state: PowerCycleState = PowerCycleState.AVAILABLE) -> ControllerReport:
    return ControllerReport(
        machine_id=machine_id, state=state, agent="rack4", controller="fake/one", port="1", at=NOW
    )


def written(result: PowerResult) -> bytes:
    return result.model_dump_json().encode()


def available(before: Description) -> Description:
    return before.model_copy(update={"power_cycle_state": "available"})


class Lab:
    """A writer of power results with an in-memory store and broker."""

    def __init__(self, store: MemoryStore | None = None, limit: RejectLimit | None = None) -> None:
        self.clock = ManualClock(NOW)
        self.store = store or MemoryStore(clock=self.clock)
        self.broker = MemoryBroker(clock=self.clock)
        self.limit = limit or RejectLimit()

    async def ordered(self, machine_id: str) -> PowerCommand:
        await self.store.update(machine_id, available, now=NOW, create=True)
        command = PowerCommand(
            id=new_ulid(),
            machine_id=machine_id,
            action=PowerAction.CYCLE,
            who="jo",
            requested_at=NOW,
            expires_at=NOW + timedelta(minutes=10),
        )
        await self.store.order_power(command, now=NOW)
        return command

    async def publish(self, *values: bytes) -> None:
        await self.broker.publish([Outgoing(POWER_RESULTS, "m", value) for value in values])

    async def until_read(self) -> None:
        async with asyncio.timeout(60):
            while any(lag.unread for lag in await self.broker.lag(POWER_RESULTS, group=GROUP)):
                await asyncio.sleep(0)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[asyncio.Task[None]]:
        """A running writer, stopped and drained at the end."""
        stop = asyncio.Event()
        writer = PowerResults(self.store, self.broker, self.clock, self.limit)
        running = asyncio.create_task(writer.run(stop))
        try:
            yield running
        finally:
            stop.set()
            async with asyncio.timeout(60):
                await running

    async def write(self, *results: PowerResult | bytes) -> None:
        """Publish and let a writer work until all is acknowledged."""
        await self.publish(*(result if isinstance(result, bytes) else written(result) for result in results))
        async with self.writing():
            await self.until_read()

    async def changes(self) -> list[MachineChange]:
        messages = await self.broker.fetch(MACHINE_CHANGES)
        return [MachineChange.model_validate_json(message.value) for message in messages]

    async def parked(self) -> list[tuple[bytes, str]]:
        dead = await self.broker.fetch(dead_letters_of(POWER_RESULTS))
        return [(message.value, message.headers[envelope.DEAD_REASON]) for message in dead]

    async def status(self, command: PowerCommand) -> PowerStatus:
        record = await self.store.power_command(command.id)
        assert record is not None
        return record.status


async def test_a_step_becomes_a_row_and_a_change() -> None:
    lab = Lab()
    command = await lab.ordered("m")

    await lab.write(step(command, PowerStatus.OFF))

    assert await lab.status(command) is PowerStatus.OFF
    (change,) = await lab.changes()
    assert change.description == await lab.store.get("m")
    assert (change.description.power_status, change.description.power_cycle) == ("off", True)


async def test_each_step_is_seen_while_the_writer_runs() -> None:
    """Nothing waits for a batch to be full."""
    lab = Lab()
    command = await lab.ordered("m")

    async with lab.writing():
        for status in CYCLE:
            await lab.publish(written(step(command, status)))
            await lab.until_read()

    assert [change.description.power_status for change in await lab.changes()] == list(CYCLE)


async def test_a_report_says_whether_the_power_can_be_driven() -> None:
    lab = Lab()
    await lab.store.update("m", lambda before: before.model_copy(), now=NOW, create=True)

    await lab.write(report("m"), report("nobody"))

    assert (await lab.store.get("m")).power_cycle_state == "available"
    assert [outlet.machine_id for outlet in await lab.store.power_outlets()] == ["m", "nobody"]
    assert [change.id for change in await lab.changes()] == ["m"]


async def test_what_was_applied_before_a_crash_is_told_again() -> None:
    lab = Lab()
    command = await lab.ordered("m")
    results = [step(command, status) for status in CYCLE]
    await lab.write(*results)
    before = await lab.store.get("m")

    await lab.write(*results)

    assert await lab.store.get("m") == before
    assert [change.description for change in await lab.changes()] == [before, before]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{nope", "Invalid JSON"),
        (b"", "Invalid JSON"),
        (b"[]", "body"),
        (b"{}", "type"),
        (b'{"type": "from the future"}', "type"),
        (b'{"type": "step", "command_id": "1"}', "command_id"),
        (written(report("m")).replace(b'"m"', b'"../m"'), "machine_id: a machine id has"),
        (written(report("m")).replace(b"fake", b"\\u0000"), "NUL characters"),
        (b"[" * 100_000, "larger than 65536 bytes"),
        (b"[" * 60_000, "body"),
    ],
    ids=["malformed", "empty", "list", "no type", "type", "fields", "path as name", "NUL", "long", "deep"],
)
async def test_a_bad_message_is_parked_with_its_reason_and_its_neighbours_live(
    value: bytes, reason: str
) -> None:
    lab = Lab()
    command = await lab.ordered("m")

    await lab.write(step(command, PowerStatus.ACCEPTED), value, step(command, PowerStatus.OFF))

    assert await lab.status(command) is PowerStatus.OFF
    ((parked, why),) = await lab.parked()
    assert parked == value
    assert reason in why


class PickyStore(MemoryStore):
    """Refuses one text, as a database might."""

    async def apply_power(
        self, results: Sequence[PowerResult], *, now: datetime, announce: bool = False
    ) -> Sequence[Updated]:
        if any(result.text == "bad" for result in results):
            raise Rejected("the database does not take it")
        return await super().apply_power(results, now=now, announce=announce)


async def test_what_the_database_does_not_take_is_parked_alone() -> None:
    lab = Lab(PickyStore())
    commands = [await lab.ordered(f"m{number}") for number in range(5)]
    results = [
        step(command, PowerStatus.DONE, text="bad" if number == 2 else "")
        for number, command in enumerate(commands)
    ]

    await lab.write(*results)

    assert [await lab.status(command) for command in commands] == [
        PowerStatus.QUEUED if number == 2 else PowerStatus.DONE for number in range(5)
    ]
    assert await lab.parked() == [(written(results[2]), "the database does not take it")]
    assert len(await lab.changes()) == 4


async def test_a_flood_of_bad_messages_stops_the_writer() -> None:
    lab = Lab(limit=RejectLimit(rejects=3, among=10))
    await lab.publish(b"a", b"b", b"c")

    with pytest.raises(TooManyRejects):
        await PowerResults(lab.store, lab.broker, lab.clock, lab.limit).run(asyncio.Event())

    assert len(await lab.parked()) == 3


class TroubledStore(MemoryStore):
    """Is away some times."""

    away = 1

    async def apply_power(
        self, results: Sequence[PowerResult], *, now: datetime, announce: bool = False
    ) -> Sequence[Updated]:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        return await super().apply_power(results, now=now, announce=announce)


async def test_a_database_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(TroubledStore())
    command = await lab.ordered("m")

    await lab.write(step(command, PowerStatus.DONE))

    assert await lab.status(command) is PowerStatus.DONE
    assert await lab.parked() == []


async def test_a_writer_that_is_stopped_while_the_database_is_away_leaves_the_batch_to_the_next() -> None:
    store = TroubledStore()
    store.away = 1000
    lab = Lab(store)
    command = await lab.ordered("m")
    await lab.publish(written(step(command, PowerStatus.DONE)))

    async with lab.writing():
        async with asyncio.timeout(60):
            while store.away == 1000:
                await asyncio.sleep(0)
    assert [lag.unread for lag in await lab.broker.lag(POWER_RESULTS, group=GROUP)] == [1]
    store.away = 0
    async with lab.writing():
        await lab.until_read()

    assert await lab.status(command) is PowerStatus.DONE


async def test_nothing_is_acknowledged_before_it_has_been_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The change that could not be published is published by the writer that reads the batch again."""
    lab = Lab()
    command = await lab.ordered("m")
    await lab.publish(written(step(command, PowerStatus.DONE)))
    tried = asyncio.Event()

    async def fail(messages: Sequence[Outgoing]) -> None:
        tried.set()
        raise BrokerUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(lab.broker, "publish", fail)
        async with lab.writing():
            await tried.wait()
    assert await lab.status(command) is PowerStatus.DONE
    assert await lab.changes() == []
    async with lab.writing():
        await lab.until_read()

    assert [change.description.power_status for change in await lab.changes()] == ["done"]


async def test_what_agents_say_is_counted() -> None:
    lab = Lab()
    command = await lab.ordered("m")

    def counted() -> tuple[float, float]:
        steps, reports = POWER_STEPS.labels("failed"), POWER_REPORTS.labels("rack4", "in_error")
        return steps._value.get(), reports._value.get()

    before = counted()
    await lab.write(step(command, PowerStatus.FAILED), report("m", PowerCycleState.IN_ERROR), b"{")

    assert counted() == (before[0] + 1, before[1] + 1)
