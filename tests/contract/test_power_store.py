"""What every store promises about power commands and outlets. The docstrings are the promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import permutations

import pytest

from pipeline import metrics
from pipeline.errors import KeyReused, MachineNotFound, PowerRefused, Rejected, VersionMismatch
from pipeline.store.power_protocol import Ordered
from pipeline.store.protocol import Updated
from schemas.changes import ChangeKind, MachineChange
from schemas.description import Description, PowerCycleState, TaskRequest
from schemas.envelope import ID, POWER_COMMAND_TYPE, TYPE
from schemas.ids import new_ulid
from schemas.power import (
    ControllerReport,
    PowerAction,
    PowerCommand,
    PowerOutlet,
    PowerRecord,
    PowerResult,
    PowerStatus,
    PowerStep,
)
from schemas.topics import MACHINE_CHANGES, POWER_COMMANDS
from tests.contract.stores import NOW, STORES, SharedDatabases, WholeStore, add, open_store, setting

GRACE = timedelta(minutes=1)
STALLED = timedelta(minutes=30)
EXPIRY = timedelta(minutes=10)


@pytest.fixture(scope="module")
def databases(request: pytest.FixtureRequest) -> Iterator[SharedDatabases]:
    with ExitStack() as stack:
        yield SharedDatabases(request, stack)


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, databases: SharedDatabases) -> AsyncIterator[WholeStore]:
    async with open_store(request, databases) as opened:
        yield opened


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def command(machine_id: str = "skia-1", *, at: datetime = NOW, **fields: object) -> PowerCommand:
    given = {"action": PowerAction.CYCLE, "who": "jo@example.com", "why": "it hangs", **fields}
    return PowerCommand.model_validate(
        {
            "id": new_ulid(),
            "machine_id": machine_id,
            "requested_at": at,
            "expires_at": at + EXPIRY,
            **given,
        }
    )


def step(of: PowerCommand, status: PowerStatus, seconds: float = 1, **fields: object) -> PowerStep:
    return PowerStep.model_validate(
        {
            "command_id": of.id,
            "machine_id": of.machine_id,
            "status": status,
            "at": later(seconds),
            "agent": "rack4",
            **fields,
        }
    )


def cycle(of: PowerCommand) -> list[PowerStep]:
    passed = (PowerStatus.ACCEPTED, PowerStatus.OFF, PowerStatus.ON, PowerStatus.DONE)
    return [step(of, status, seconds) for seconds, status in enumerate(passed, start=1)]


def report(machine_id: str = "skia-1", seconds: float = 0, **fields: object) -> ControllerReport:
    given = {"state": PowerCycleState.AVAILABLE, "agent": "rack4", "text": "", **fields}
    return ControllerReport.model_validate(
        {
            "machine_id": machine_id,
            "controller": "edgeswitch/rack4-switch1",
            "port": "7",
            "at": later(seconds),
            **given,
        }
    )


async def ready(store: WholeStore, machine_id: str = "skia-1", /, **fields: object) -> Description:
    """A machine with a power controller."""
    return await add(store, machine_id, **{"power_cycle_state": "available", **fields})


async def ordered(store: WholeStore, of: PowerCommand) -> PowerCommand:
    assert (await store.order_power(of, now=of.requested_at)).is_new
    return of


async def begun(store: WholeStore, of: PowerCommand) -> PowerCommand:
    await ordered(store, of)
    await store.apply_power([step(of, PowerStatus.ACCEPTED)], now=later(1))
    return of


async def record_of(store: WholeStore, of: PowerCommand) -> PowerRecord:
    found = await store.power_command(of.id)
    assert found is not None
    return found


def passed(record: PowerRecord) -> list[PowerStatus]:
    return [each.status for each in record.steps]


async def drained(store: WholeStore) -> list[tuple[str, bytes]]:
    """Topic and value of what waits in the outbox, which is empty then."""
    rows = await store.take(limit=1000)
    await store.remove(rows)
    return [(row.message.topic, row.message.value) for row in rows]


async def power_lines(store: WholeStore, machine_id: str = "skia-1") -> list[tuple[str, str, str]]:
    """Who, what and why, the oldest first; without that the machine is new."""
    lines = await store.history(machine_id)
    return [(each.who, each.after, each.why) for each in reversed(lines) if each.kind is ChangeKind.POWER][1:]


# --- asking ------------------------------------------------------------------------------------------------------------


async def test_a_command_is_queued_with_all_that_tells_of_it(store: WholeStore) -> None:
    """Row, Description, history and both messages stand there together."""
    before = await ready(store)
    wish = command(delay_s=7.5)

    answer = await store.order_power(wish, now=NOW)

    assert answer.is_new
    assert answer.record == await record_of(store, wish)
    assert (answer.record.command, answer.record.status, answer.record.agent) == (
        wish,
        PowerStatus.QUEUED,
        "",
    )
    assert [(each.status, each.at) for each in answer.record.steps] == [(PowerStatus.QUEUED, NOW)]
    machine = await store.get("skia-1")
    assert answer.machine == machine
    assert machine.row_version == before.row_version + 1
    assert (machine.power_cycle, machine.power_action, machine.power_status) == (True, "cycle", "queued")
    assert machine.annotation.message == 'Requested powercycle for "skia-1"'
    assert machine.annotation.user == "jo@example.com"
    assert await power_lines(store) == [("jo@example.com", "available, cycle queued", "it hangs")]


async def test_both_messages_of_a_command_are_in_the_outbox(store: WholeStore) -> None:
    """The machine's change, and the command under its own id."""
    await ready(store)
    wish = await ordered(store, command())

    rows = await store.take(limit=10)

    messages = {row.message.topic: row for row in rows}
    assert messages.keys() == {MACHINE_CHANGES, POWER_COMMANDS}
    assert {row.message.key for row in rows} == {"skia-1"}
    told = messages[POWER_COMMANDS].message
    assert PowerCommand.model_validate_json(told.value) == wish
    assert (told.headers[TYPE], told.headers[ID]) == (POWER_COMMAND_TYPE, wish.id)
    change = MachineChange.model_validate_json(messages[MACHINE_CHANGES].message.value)
    assert change.description == await store.get("skia-1")
    assert {row.version for row in rows} == {change.version}


@pytest.mark.parametrize("action", [PowerAction.ON, PowerAction.OFF])
async def test_only_a_cycle_raises_the_old_flag(store: WholeStore, action: PowerAction) -> None:
    """Old agents would cycle what is to be off."""
    await ready(store)

    answer = await store.order_power(command(action=action), now=NOW)

    assert not answer.machine.power_cycle
    assert answer.machine.power_action == action.value
    assert await store.list_powercycle() == []


async def test_a_pending_command_is_returned_whatever_is_asked_for(store: WholeStore) -> None:
    """Then nothing is written, and neither versions nor force matter."""
    await ready(store)
    first = await begun(store, command())
    await drained(store)

    answer = await store.order_power(
        command(action=PowerAction.OFF, force=True), now=later(2), idempotency_key="k", versions=[77]
    )

    assert answer == Ordered(await record_of(store, first), await store.get("skia-1"), is_new=False)
    assert await drained(store) == []
    assert len(await store.power_commands()) == 1


async def test_the_same_wish_is_granted_once(store: WholeStore) -> None:
    """Also after its command has ended; another wish, and the same of another machine, make commands of their own."""
    await ready(store)
    await ready(store, "skia-2")
    wish = command()
    await store.order_power(wish, now=NOW, idempotency_key="k1")
    await store.apply_power(cycle(wish), now=later(5))

    again = await store.order_power(command(), now=later(6), idempotency_key="k1")
    by_id = await store.order_power(wish, now=later(6))
    elsewhere = await store.order_power(command("skia-2"), now=later(6), idempotency_key="k1")
    other = await store.order_power(command(), now=later(6), idempotency_key="k2")

    assert not again.is_new
    assert again.record == by_id.record == await record_of(store, wish)
    assert again.record.status is PowerStatus.DONE
    assert elsewhere.is_new
    assert other.is_new


@pytest.mark.parametrize("has_ended", [False, True], ids=["pending", "ended"])
async def test_a_key_stands_for_one_wish(store: WholeStore, has_ended: bool) -> None:
    """`KeyReused` says what is different; nothing is written, and the very same wish still finds its command."""
    await ready(store)
    wish = command(delay_s=7.5)
    await store.order_power(wish, now=NOW, idempotency_key="k")
    if has_ended:
        await store.apply_power(cycle(wish), now=later(5))
    before = (await store.get("skia-1"), await record_of(store, wish))
    await drained(store)
    others: dict[str, PowerCommand] = {
        "action": command(delay_s=7.5, action=PowerAction.OFF),
        "delay_s": command(),
        "why": command(delay_s=7.5, why="again"),
        "force": command(delay_s=7.5, force=True),
        "expires_in_s": command(delay_s=7.5, expires_at=later(601)),
    }

    for name, other in others.items():
        with pytest.raises(KeyReused, match=rf"different: {name}\)"):
            await store.order_power(other, now=later(6), idempotency_key="k")

    assert (await store.get("skia-1"), await record_of(store, wish)) == before
    assert await drained(store) == []
    again = command(delay_s=7.5, at=later(6), who="al@example.com")
    assert (await store.order_power(again, now=later(6), idempotency_key="k")).record == before[1]


async def test_a_key_counts_as_long_as_its_command_is_kept(store: WholeStore) -> None:
    """Then it may stand for another wish."""
    await ready(store)
    first = command()
    await store.order_power(first, now=NOW, idempotency_key="k")
    await store.apply_power(cycle(first), now=later(5))
    await store.forget_power(before=later(60))

    answer = await store.order_power(command(action=PowerAction.ON), now=later(60), idempotency_key="k")

    assert answer.is_new
    assert answer.record.command.action is PowerAction.ON


async def test_wishes_without_a_key_are_different_ones(store: WholeStore) -> None:
    """The empty key is none."""
    await ready(store)
    first = await ordered(store, command())
    await store.apply_power(cycle(first), now=later(5))

    assert (await store.order_power(command(), now=later(6))).is_new


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"power_cycle_state": "not_available"}, "no_controller"),
        ({"power_cycle_state": ""}, "no_controller"),
        ({"power_cycle_state": "in_error"}, "controller_in_error"),
        ({"maintenance_mode": "al@example.com 2026-01-01T00:00:00Z"}, "maintenance"),
        ({"running_swarming_task": True}, "task_running"),
        ({"task_request": TaskRequest(name="t")}, "task_running"),
    ],
)
async def test_what_must_not_be_done_is_refused_with_the_reason(
    store: WholeStore, fields: dict[str, object], reason: str
) -> None:
    """And leaves no trace. Force overrules all but a missing controller."""
    before = await ready(store, **fields)

    with pytest.raises(PowerRefused) as refused:
        await store.order_power(command(), now=NOW)

    assert refused.value.reason == reason
    assert "skia-1" in str(refused.value)
    assert await store.get("skia-1") == before
    assert await store.power_commands() == []
    assert await drained(store) == []
    if reason == "no_controller":
        with pytest.raises(PowerRefused):
            await store.order_power(command(force=True), now=NOW)
    else:
        assert (await store.order_power(command(force=True), now=NOW)).is_new


async def test_a_person_may_drive_the_machine_that_they_maintain(store: WholeStore) -> None:
    """Maintenance keeps others out; switching on ends no task."""
    await ready(store, maintenance_mode="jo@example.com 2026-01-01T00:00:00Z cable")
    await ready(store, "skia-2", running_swarming_task=True)

    assert (await store.order_power(command(), now=NOW)).is_new
    assert (await store.order_power(command("skia-2", action=PowerAction.ON), now=NOW)).is_new


async def test_only_machines_that_are_known_have_power(store: WholeStore) -> None:
    """`MachineNotFound` for all others."""
    with pytest.raises(MachineNotFound):
        await store.order_power(command("nobody"), now=NOW)
    for machine_id in ("nobody", "", "a b"):
        with pytest.raises(MachineNotFound):
            await store.cancel_power(machine_id, now=NOW, who="jo")


async def test_a_command_can_be_bound_to_what_was_seen(store: WholeStore) -> None:
    """With `versions`, only in one of them."""
    before = await ready(store)

    with pytest.raises(VersionMismatch):
        await store.order_power(command(), now=NOW, versions=[before.row_version + 1])
    assert await store.power_commands() == []
    assert (await store.order_power(command(), now=NOW, versions=[before.row_version])).is_new
    with pytest.raises(VersionMismatch):
        await store.cancel_power("skia-1", now=NOW, who="jo", versions=[before.row_version])


async def test_text_that_no_database_takes_is_rejected(store: WholeStore) -> None:
    """Nothing of the call remains."""
    await ready(store)
    bad = command().model_copy(update={"why": "a\x00b"})
    with pytest.raises(Rejected):
        await store.order_power(bad, now=NOW)
    with pytest.raises(Rejected):
        await store.order_power(command(), now=NOW, idempotency_key="a\x00b")
    assert await store.power_commands() == []
    wish = await ordered(store, command())
    good, broken = (step(wish, PowerStatus.ACCEPTED), step(wish, PowerStatus.OFF))

    for text in ("a\x00b", "\ud800"):
        with pytest.raises(Rejected):
            await store.apply_power([good, broken.model_copy(update={"text": text})], now=later(1))
        with pytest.raises(Rejected):
            await store.apply_power([good, report().model_copy(update={"text": text})], now=later(1))

    assert (await record_of(store, wish)).status is PowerStatus.QUEUED
    assert await store.power_outlets() == []


# --- withdrawing -------------------------------------------------------------------------------------------------------


async def test_what_nobody_has_begun_can_be_withdrawn(store: WholeStore) -> None:
    """The agents are told, so that they do not begin."""
    await ready(store)
    wish = await ordered(store, command())
    await drained(store)

    answer = await store.cancel_power("skia-1", now=later(3), who="al@example.com")

    assert answer is not None
    assert not answer.is_new
    assert answer.record == await record_of(store, wish)
    assert answer.machine == await store.get("skia-1")
    assert answer.record.status is PowerStatus.CANCELLED
    assert answer.record.text == "withdrawn by al@example.com"
    assert [(each.status, each.at) for each in answer.record.steps][1:] == [(PowerStatus.CANCELLED, later(3))]
    assert (answer.machine.power_cycle, answer.machine.power_status) == (False, "cancelled")
    assert answer.machine.annotation.message == 'Cancelled powercycle for "skia-1"'
    told = dict(await drained(store))
    assert PowerCommand.model_validate_json(told[POWER_COMMANDS]) == wish.model_copy(
        update={"cancelled": True}
    )
    assert MACHINE_CHANGES in told
    assert (await power_lines(store))[-1][:2] == ("al@example.com", "available, cycle cancelled")


async def test_a_withdrawal_may_say_why(store: WholeStore) -> None:
    await ready(store)
    wish = await ordered(store, command())

    await store.cancel_power("skia-1", now=later(3), who="jo", why="a task runs")

    assert (await record_of(store, wish)).text == "withdrawn by jo: a task runs"
    assert (await power_lines(store))[-1] == ("jo", "available, cycle cancelled", "a task runs")


async def test_the_withdrawal_is_a_message_of_its_own(store: WholeStore) -> None:
    """A reader that drops messages it has seen must not drop it."""
    await ready(store)
    await ordered(store, command())
    await store.cancel_power("skia-1", now=NOW, who="jo")

    rows = [row for row in await store.take(limit=10) if row.message.topic == POWER_COMMANDS]

    assert len({row.message.headers[ID] for row in rows}) == 2
    assert rows[0].version < rows[1].version


async def test_what_has_begun_cannot_be_withdrawn(store: WholeStore) -> None:
    """The port may be off already."""
    await ready(store)
    await begun(store, command())

    with pytest.raises(PowerRefused, match="rack4 has begun") as refused:
        await store.cancel_power("skia-1", now=later(2), who="jo")

    assert refused.value.reason == "begun"
    assert (await store.get("skia-1")).power_cycle


async def test_with_nothing_pending_there_is_nothing_to_withdraw(store: WholeStore) -> None:
    """But a flag that an old server's client left is taken down."""
    await ready(store)
    await ready(store, "skia-2", power_cycle=True)
    wish = await ordered(store, command())
    await store.apply_power(cycle(wish), now=later(5))
    before = await store.get("skia-1")
    await drained(store)

    assert await store.cancel_power("skia-1", now=later(6), who="jo") is None
    assert await store.get("skia-1") == before
    assert await drained(store) == []
    assert await store.cancel_power("skia-2", now=later(6), who="jo") is None
    assert not (await store.get("skia-2")).power_cycle
    assert [topic for topic, _ in await drained(store)] == [MACHINE_CHANGES]


# --- steps -------------------------------------------------------------------------------------------------------------


async def test_each_step_shows_and_keeps_its_time(store: WholeStore) -> None:
    """In the record and in the Description; the history tells of beginning and end."""
    await ready(store)
    wish = await ordered(store, command())
    seen = []

    for each in cycle(wish):
        (updated,) = await store.apply_power([each], now=each.at)
        assert updated.after == await store.get("skia-1")
        assert updated.kinds == (ChangeKind.POWER,)
        seen.append((updated.after.power_status, updated.after.power_cycle))

    assert seen == [("accepted", True), ("off", True), ("on", True), ("done", False)]
    record = await record_of(store, wish)
    assert record.status is PowerStatus.DONE
    assert record.agent == "rack4"
    assert [each.at for each in record.steps] == [later(seconds) for seconds in range(5)]
    assert [after for _, after, _ in await power_lines(store)] == [
        "available, cycle queued",
        "available, cycle done",
    ]


async def test_steps_may_come_in_any_order_any_number_of_times(store: WholeStore) -> None:
    """It always comes to the same record, and never goes backward on the way."""
    records = []
    for number, mixed in enumerate(permutations(range(4))):
        if number % 5:
            continue  # a sample of the orders does
        machine_id = f"skia-{number}"
        await ready(store, machine_id)
        wish = await ordered(store, command(machine_id))
        furthest = 0
        for place in (*mixed, *mixed):
            await store.apply_power([cycle(wish)[place]], now=later(9))
            furthest = max(furthest, place)
            machine = await store.get(machine_id)
            assert machine.power_status == cycle(wish)[furthest].status.value
        records.append(await record_of(store, wish))

    assert len(records) == 5
    assert {tuple(passed(each)) for each in records} == {tuple(PowerStatus)[:5]}
    assert {each.status for each in records} == {PowerStatus.DONE}


async def test_a_repeated_step_changes_nothing(store: WholeStore) -> None:
    """But the caller may tell it again: it may have crashed before it did."""
    await ready(store)
    wish = await ordered(store, command())
    await store.apply_power(cycle(wish), now=later(5))
    before, machine = await record_of(store, wish), await store.get("skia-1")

    assert await store.apply_power(cycle(wish), now=later(6)) == [Updated("skia-1", machine, ())]

    assert await record_of(store, wish) == before
    assert await store.get("skia-1") == machine


async def test_a_pending_command_tells_why_it_takes_so_long(store: WholeStore) -> None:
    """In its agent's latest words, until it moves on. Nobody else's word counts, and no step is added."""
    await ready(store)
    wish = await ordered(store, command())
    await store.apply_power([step(wish, PowerStatus.ACCEPTED)], now=later(1))
    before = await record_of(store, wish)

    await store.apply_power([step(wish, PowerStatus.ACCEPTED, 2, text="no answer")], now=later(2))
    await store.apply_power([step(wish, PowerStatus.ACCEPTED, 3, text="connection refused")], now=later(3))
    await store.apply_power([step(wish, PowerStatus.ACCEPTED, 4, text="?", agent="rack5")], now=later(4))
    await store.apply_power([step(wish, PowerStatus.ACCEPTED, 1)], now=later(5))

    assert await record_of(store, wish) == before.evolve({"text": "connection refused"})
    await store.apply_power([step(wish, PowerStatus.OFF, 6)], now=later(6))
    await store.apply_power([step(wish, PowerStatus.ACCEPTED, 3, text="too late")], now=later(7))
    assert (await record_of(store, wish)).text == ""
    await store.apply_power(cycle(wish), now=later(8))
    assert (await record_of(store, wish)).text == ""


async def test_a_batch_leaves_what_one_call_for_each_would_leave(store: WholeStore) -> None:
    """For several machines, with steps and reports mixed."""
    one, two = command("skia-1"), command("skia-2", action=PowerAction.OFF)
    results: list[PowerResult] = [
        report("skia-1", 1),
        step(one, PowerStatus.ACCEPTED, 1, command=one),
        step(two, PowerStatus.ACCEPTED, 1, command=two),
        report("skia-2", 2, state=PowerCycleState.IN_ERROR, text="no answer"),
        step(one, PowerStatus.FAILED, 3, text="no answer"),
        step(two, PowerStatus.OFF, 3),
        report("nobody", 3),
    ]
    await ready(store, "skia-1")
    await ready(store, "skia-2")

    updated = await store.apply_power(results, now=later(4))

    assert [each.machine_id for each in updated] == ["skia-1", "skia-2"]
    first, second = await store.get("skia-1"), await store.get("skia-2")
    assert (first.power_status, first.power_cycle, first.row_version) == ("failed", False, 2)
    assert (second.power_status, second.power_cycle_state, second.row_version) == ("off", "in_error", 2)
    assert (await power_lines(store, "skia-1"))[-1] == ("labkeeper", "available, cycle failed", "no answer")
    assert (await power_lines(store, "skia-2"))[-1][2] == "no answer"


async def test_the_end_that_an_agent_told_is_final(store: WholeStore) -> None:
    """What comes later is kept with its time, and moves nothing."""
    await ready(store)
    wish = await begun(store, command())
    failed = step(wish, PowerStatus.FAILED, 2, text="the switch does not answer")
    await store.apply_power([failed], now=later(2))

    assert await store.apply_power([step(wish, PowerStatus.DONE, 9, agent="rack5")], now=later(9)) == []

    record = await record_of(store, wish)
    assert (record.status, record.agent, record.text) == (
        PowerStatus.FAILED,
        "rack4",
        "the switch does not answer",
    )
    assert passed(record)[-1] is PowerStatus.DONE


@pytest.mark.parametrize("end", [PowerStatus.CANCELLED, PowerStatus.EXPIRED, PowerStatus.FAILED])
async def test_what_the_store_said_gives_way_to_an_agent_that_had_begun(
    store: WholeStore, end: PowerStatus
) -> None:
    """The command goes on, and ends as the agent says."""
    await ready(store)
    wish = await ordered(store, command())
    if end is PowerStatus.CANCELLED:
        await store.cancel_power("skia-1", now=later(1), who="jo")
    elif end is PowerStatus.EXPIRED:
        await store.expire_power(now=NOW + EXPIRY + GRACE, grace=GRACE, stalled=STALLED)
    else:
        await store.apply_power([step(wish, PowerStatus.ACCEPTED)], now=later(1))
        await store.expire_power(now=later(1) + STALLED, grace=GRACE, stalled=STALLED)
    assert (await record_of(store, wish)).status is end

    (off,) = await store.apply_power([step(wish, PowerStatus.OFF, 2)], now=later(3))

    assert (await record_of(store, wish)).status is PowerStatus.OFF
    assert (off.after.power_status, off.after.power_cycle) == ("off", True)
    assert [each.command.id for each in await store.power_commands(pending=True)] == [wish.id]

    await store.apply_power([step(wish, PowerStatus.DONE, 4)], now=later(4))

    record = await record_of(store, wish)
    assert (record.status, record.text) == (PowerStatus.DONE, "")
    assert {PowerStatus.OFF, PowerStatus.DONE, end} <= set(passed(record))


async def test_an_agent_that_did_not_begin_confirms_the_withdrawal(store: WholeStore) -> None:
    """Nothing was switched: that the person withdrew it says more than that the agent would not."""
    await ready(store)
    wish = await ordered(store, command())
    await store.cancel_power("skia-1", now=later(1), who="jo")

    await store.apply_power([step(wish, PowerStatus.REFUSED, 2, text="no such port")], now=later(2))

    record = await record_of(store, wish)
    assert (record.status, record.text) == (PowerStatus.CANCELLED, "withdrawn by jo")
    assert not (await store.get("skia-1")).power_cycle


@pytest.mark.parametrize("place", range(5))
async def test_who_would_not_begin_does_not_hide_what_another_did(store: WholeStore, place: int) -> None:
    """A machine may be in the configurations of two agents, of which one cannot use its controller."""
    await ready(store)
    wish = await ordered(store, command())
    refused = step(wish, PowerStatus.REFUSED, 1, agent="rack5", text="no such port")
    said = cycle(wish)
    said.insert(place, refused)

    for seconds, each in enumerate([*said, refused], start=1):
        await store.apply_power([each], now=later(seconds))

    record = await record_of(store, wish)
    assert (record.status, record.agent, record.text) == (PowerStatus.DONE, "rack4", "")
    assert set(passed(record)) >= {PowerStatus.REFUSED, PowerStatus.OFF}
    machine = await store.get("skia-1")
    assert (machine.power_status, machine.power_cycle) == ("done", False)


async def test_a_command_that_goes_on_beside_a_new_one_is_not_lost(store: WholeStore) -> None:
    """The newest pending one is told of; then what is still pending; then the newest."""
    await ready(store)
    old = await ordered(store, command())
    await store.cancel_power("skia-1", now=later(1), who="jo")
    new = await ordered(store, command(at=later(2), action=PowerAction.OFF))

    await store.apply_power([step(old, PowerStatus.ACCEPTED, 2)], now=later(2))
    assert (await store.get("skia-1")).power_status == "queued"
    assert not (await store.get("skia-1")).power_cycle
    await store.cancel_power("skia-1", now=later(3), who="jo")
    assert (await store.get("skia-1")).power_status == "accepted"
    assert (await store.get("skia-1")).power_cycle
    await store.apply_power([step(old, PowerStatus.DONE, 4)], now=later(4))

    machine = await store.get("skia-1")
    assert (machine.power_cycle, machine.power_action, machine.power_status) == (False, "off", "cancelled")
    assert (await record_of(store, new)).status is PowerStatus.CANCELLED


async def test_a_command_that_did_not_come_through_the_store_gets_its_row(store: WholeStore) -> None:
    """A person drove the switch while we were away. Without the command itself the step means nothing."""
    await ready(store)
    unseen = command(who="jo@bench")

    assert await store.apply_power([step(unseen, PowerStatus.ACCEPTED)], now=later(1)) == []
    assert await store.power_command(unseen.id) is None
    (updated,) = await store.apply_power([step(unseen, PowerStatus.DONE, 2, command=unseen)], now=later(3))

    record = await record_of(store, unseen)
    assert record.command == unseen
    assert passed(record) == [PowerStatus.QUEUED, PowerStatus.DONE]
    assert updated.after.power_status == "done"


async def test_steps_about_somebody_elses_command_are_ignored(store: WholeStore) -> None:
    """Ids do not wander from machine to machine."""
    await ready(store)
    await ready(store, "skia-2")
    wish = await ordered(store, command())
    astray = step(wish, PowerStatus.DONE).model_copy(update={"machine_id": "skia-2"})
    other = command("skia-2")
    results = [
        astray,
        astray.model_copy(update={"command": wish}),
        astray.model_copy(update={"command": wish.model_copy(update={"machine_id": "skia-2"})}),
        step(other, PowerStatus.DONE, command=command("skia-2")),
    ]

    assert await store.apply_power(results, now=later(1)) == []

    assert (await record_of(store, wish)).status is PowerStatus.QUEUED
    assert len(await store.power_commands()) == 1
    assert (await store.get("skia-2")).power_status == ""


async def test_changes_go_to_the_outbox_where_the_caller_has_no_input_to_fall_back_on(
    store: WholeStore,
) -> None:
    """Only then."""
    await ready(store)
    wish = await ordered(store, command())
    await drained(store)

    await store.apply_power([step(wish, PowerStatus.ACCEPTED)], now=later(1))
    assert await drained(store) == []
    (updated,) = await store.apply_power([step(wish, PowerStatus.OFF)], now=later(2), announce=True)

    ((topic, value),) = await drained(store)
    assert topic == MACHINE_CHANGES
    assert MachineChange.model_validate_json(value).description == updated.after


async def test_no_results_are_fine(store: WholeStore) -> None:
    """Nothing happens."""
    assert await store.apply_power([], now=NOW) == []


async def test_events_after_a_step_leave_the_power_alone(store: WholeStore) -> None:
    """Whoever remembers rows, remembers the new one."""
    await ready(store)
    wish = await ordered(store, command())
    await store.apply_power([step(wish, PowerStatus.ACCEPTED)], now=later(1))

    (updated,) = await store.update_many({"skia-1": [setting(battery=50)]}, now=later(2))

    assert (updated.after.power_status, updated.after.battery) == ("accepted", 50)
    assert updated.after == await store.get("skia-1")


# --- outlets -----------------------------------------------------------------------------------------------------------


async def test_a_report_says_where_the_power_comes_from(store: WholeStore) -> None:
    """It is kept also for a machine that nobody knows yet, which is not made by it."""
    await add(store, "skia-1")

    updated = await store.apply_power([report("skia-1"), report("skia-9", text="x")], now=later(1))

    assert [each.machine_id for each in updated] == ["skia-1"]
    assert (await store.get("skia-1")).power_cycle_state == "available"
    first, second = await store.power_outlets()
    assert first == PowerOutlet(
        machine_id="skia-1",
        agent="rack4",
        controller="edgeswitch/rack4-switch1",
        port="7",
        state=PowerCycleState.AVAILABLE,
        reported_at=NOW,
    )
    assert await store.power_outlets(["skia-9", "skia-7"]) == [second]
    assert await store.power_outlets([]) == []
    with pytest.raises(MachineNotFound):
        await store.get("skia-9")


async def test_a_new_machine_has_the_power_that_was_reported_before(
    store: WholeStore,
) -> None:
    """Also one that comes back after it was deleted. The next report may be minutes away."""
    await store.apply_power([report(), report("skia-2", state=PowerCycleState.IN_ERROR)], now=NOW)

    for machine_id in ("skia-1", "skia-2", "skia-3"):
        await add(store, machine_id)
    await store.delete("skia-1", now=later(1), who="jo@example.com")
    again = await add(store, "skia-1")

    assert again.power_cycle_state == "available"
    assert (await store.get("skia-1")).power_cycle_state == "available"
    assert (await store.get("skia-2")).power_cycle_state == "in_error"
    assert (await store.get("skia-3")).power_cycle_state == "not_available"
    assert (await store.order_power(command(), now=later(2))).is_new


async def test_a_report_that_is_confirmed_tells_nobody(store: WholeStore) -> None:
    """The outlet's time goes on. Only the very same report may be told again."""
    machine = await ready(store)
    await store.apply_power([report(seconds=0)], now=NOW)

    assert await store.apply_power([report(seconds=0)], now=NOW) == [Updated("skia-1", machine, ())]
    assert await store.apply_power([report(seconds=60)], now=later(60)) == []
    assert [each.reported_at for each in await store.power_outlets()] == [later(60)]


async def test_a_port_that_two_agents_have_at_once_is_counted(store: WholeStore) -> None:
    """Each time it changes hands; also within a batch. Not when the agent before has long said nothing."""

    def counted() -> tuple[float, float]:
        first, second = (metrics.POWER_OUTLETS_CLAIMED_TWICE.labels(agent) for agent in ("rack4", "rack5"))
        return first._value.get(), second._value.get()

    before = counted()
    await store.apply_power([report(), report(seconds=60), report(seconds=70, agent="rack5")], now=later(80))
    await store.apply_power([report(seconds=120)], now=later(121))
    await store.apply_power([report(seconds=130, controller="mpower/other")], now=later(131))
    await store.apply_power([report(seconds=131 + 600, agent="rack5")], now=later(740))

    assert [now - then for now, then in zip(counted(), before, strict=True)] == [2, 1]


async def test_an_older_report_is_ignored(store: WholeStore) -> None:
    """Also within a batch."""
    await ready(store)
    broken = report(seconds=9, state=PowerCycleState.IN_ERROR, text="no answer")

    await store.apply_power([broken, report(seconds=5)], now=later(10))
    await store.apply_power([report(seconds=8)], now=later(10))

    assert (await store.get("skia-1")).power_cycle_state == "in_error"
    assert [each.text for each in await store.power_outlets()] == ["no answer"]


async def test_a_clock_that_was_ahead_silences_nobody(store: WholeStore) -> None:
    """A report from the future counts as of now."""
    await ready(store)
    await store.apply_power([report(seconds=10**6, state=PowerCycleState.IN_ERROR)], now=NOW)

    await store.apply_power([report(seconds=1)], now=later(1))

    assert (await store.get("skia-1")).power_cycle_state == "available"


# --- ends that nobody tells --------------------------------------------------------------------------------------------


async def test_a_command_that_nobody_begins_expires(store: WholeStore) -> None:
    """Some time after agents must no longer begin it; then a new one can be asked for."""
    await ready(store)
    wish = await ordered(store, command())
    await drained(store)
    due = NOW + EXPIRY + GRACE

    assert await store.expire_power(now=due - timedelta(milliseconds=1), grace=GRACE, stalled=STALLED) == []
    ended = await store.expire_power(now=due, grace=GRACE, stalled=STALLED)

    assert ended == [await record_of(store, wish)]
    assert [(each.status, each.text) for each in ended] == [
        (PowerStatus.EXPIRED, "no agent began it in time")
    ]
    machine = await store.get("skia-1")
    assert (machine.power_cycle, machine.power_status) == (False, "expired")
    ((topic, value),) = await drained(store)
    assert topic == MACHINE_CHANGES
    assert MachineChange.model_validate_json(value).description == machine
    assert await store.expire_power(now=due, grace=GRACE, stalled=STALLED) == []
    assert (await store.order_power(command(at=due), now=due)).is_new


async def test_a_command_that_has_expired_makes_way_for_a_new_one(store: WholeStore) -> None:
    """At once, not only when somebody sweeps. It is ended and told of, once, before the new one is made."""
    await ready(store)
    old = await ordered(store, command())
    await drained(store)
    late = NOW + EXPIRY
    early = late - timedelta(milliseconds=1)
    assert not (await store.order_power(command(at=early), now=early)).is_new
    counted = metrics.POWER_GIVEN_UP.labels("expired")._value.get()
    seen = (await store.get("skia-1")).row_version

    new = command(at=late, action=PowerAction.OFF)
    answer = await store.order_power(new, now=late, versions=[seen])

    assert answer.is_new
    assert answer.record.command == new
    ended = await record_of(store, old)
    assert (ended.status, ended.text) == (PowerStatus.EXPIRED, "no agent began it in time")
    assert [(each.status, each.at) for each in ended.steps] == [
        (PowerStatus.QUEUED, NOW),
        (PowerStatus.EXPIRED, late),
    ]
    assert [each.command.id for each in await store.power_commands(pending=True)] == [new.id]
    machine = await store.get("skia-1")
    assert answer.machine == machine
    assert (machine.power_action, machine.power_status, machine.power_cycle) == ("off", "queued", False)
    assert (await power_lines(store))[1:] == [
        ("labkeeper", "available, cycle expired", "no agent began it in time"),
        ("jo@example.com", "available, off queued", "it hangs"),
    ]
    told = await drained(store)
    changes = [MachineChange.model_validate_json(value) for topic, value in told if topic == MACHINE_CHANGES]
    assert [each.description.power_status for each in changes] == ["expired", "queued"]
    assert changes[-1].description == machine
    (sent,) = [value for topic, value in told if topic == POWER_COMMANDS]
    assert PowerCommand.model_validate_json(sent) == new
    swept = late + GRACE
    assert await store.expire_power(now=swept, grace=GRACE, stalled=STALLED) == []
    assert metrics.POWER_GIVEN_UP.labels("expired")._value.get() == counted + 1


async def test_a_command_that_was_begun_does_not_expire_for_a_new_one(store: WholeStore) -> None:
    """However long it takes."""
    await ready(store)
    wish = await begun(store, command())
    late = NOW + 2 * EXPIRY

    answer = await store.order_power(command(at=late), now=late)

    assert (answer.is_new, answer.record.command.id) == (False, wish.id)
    assert answer.record.status is PowerStatus.ACCEPTED


async def test_who_asks_again_with_its_key_hears_that_a_command_has_expired(store: WholeStore) -> None:
    """And no new one is made."""
    await ready(store)
    wish = command()
    await store.order_power(wish, now=NOW, idempotency_key="k")
    await drained(store)
    late = NOW + EXPIRY

    answers = [await store.order_power(command(at=late), now=late, idempotency_key="k") for _ in range(2)]

    assert [(each.is_new, each.record) for each in answers] == 2 * [(False, await record_of(store, wish))]
    assert answers[0].record.status is PowerStatus.EXPIRED
    assert answers[0].machine == await store.get("skia-1")
    assert [topic for topic, _ in await drained(store)] == [MACHINE_CHANGES]


async def test_a_new_command_that_is_refused_leaves_the_expired_one_to_the_sweep(store: WholeStore) -> None:
    """Nothing is written then."""
    await ready(store)
    wish = await ordered(store, command())
    await store.update("skia-1", setting(running_swarming_task=True), now=later(1))
    before = await store.get("skia-1")
    await drained(store)
    late = NOW + EXPIRY

    with pytest.raises(PowerRefused):
        await store.order_power(command(at=late), now=late)
    with pytest.raises(VersionMismatch):
        await store.order_power(command(at=late, force=True), now=late, versions=[before.row_version + 1])

    assert (await record_of(store, wish)).status is PowerStatus.QUEUED
    assert await store.get("skia-1") == before
    assert await drained(store) == []


async def test_an_agent_that_began_in_time_is_believed_though_a_new_command_was_made(
    store: WholeStore,
) -> None:
    """Its word may come late: both commands are told of as they are, and both end."""
    await ready(store)
    old = await ordered(store, command())
    late = NOW + EXPIRY
    new = await ordered(store, command(at=late, action=PowerAction.OFF))
    began = EXPIRY.total_seconds() - 1

    await store.apply_power([step(old, PowerStatus.ACCEPTED, began)], now=late + timedelta(seconds=1))

    record = await record_of(store, old)
    assert (record.status, record.agent, record.text) == (PowerStatus.ACCEPTED, "rack4", "")
    assert passed(record) == [PowerStatus.QUEUED, PowerStatus.ACCEPTED, PowerStatus.EXPIRED]
    assert (await store.get("skia-1")).power_status == "queued"
    third = await store.order_power(command(at=late), now=late + timedelta(seconds=1))
    assert (third.is_new, third.record.command.id) == (False, new.id)

    ends = [step(old, PowerStatus.DONE, began + 9), step(new, PowerStatus.DONE, began + 12)]
    await store.apply_power(ends, now=late + timedelta(seconds=12))

    assert {(await record_of(store, each)).status for each in (old, new)} == {PowerStatus.DONE}
    machine = await store.get("skia-1")
    assert (machine.power_action, machine.power_status) == ("off", "done")


async def test_a_command_of_which_nothing_is_heard_has_failed(store: WholeStore) -> None:
    """Each step is a sign of life, by our own clock."""
    await ready(store)
    wish = await ordered(store, command())
    await store.apply_power([step(wish, PowerStatus.ACCEPTED, seconds=10**6)], now=later(1))
    await store.apply_power([step(wish, PowerStatus.OFF)], now=later(60))

    assert await store.expire_power(now=later(59) + STALLED, grace=GRACE, stalled=STALLED) == []
    (ended,) = await store.expire_power(now=later(60) + STALLED, grace=GRACE, stalled=STALLED)

    assert ended.status is PowerStatus.FAILED
    assert ended.text.startswith("nothing was heard from rack4 for 30 minutes")
    assert (await power_lines(store))[-1][2] == ended.text
    assert not (await store.get("skia-1")).power_cycle


async def test_commands_end_also_without_their_machine(store: WholeStore) -> None:
    """Nothing pending stays for ever."""
    unseen = command()
    await store.apply_power([step(unseen, PowerStatus.OFF, command=unseen)], now=later(1))

    (ended,) = await store.expire_power(now=later(1) + STALLED, grace=GRACE, stalled=STALLED)

    assert ended.command == unseen
    assert await store.power_commands(pending=True) == []


async def test_a_deleted_machine_takes_along_what_nobody_has_begun(store: WholeStore) -> None:
    """The agents are told. Should the machine come back, its power can be driven."""
    await ready(store)
    wish = await ordered(store, command())
    await drained(store)

    await store.delete("skia-1", now=later(1), who="jo")

    record = await record_of(store, wish)
    assert (record.status, record.text) == (PowerStatus.CANCELLED, "jo deleted the machine")
    told = [value for topic, value in await drained(store) if topic == POWER_COMMANDS]
    assert [PowerCommand.model_validate_json(each).cancelled for each in told] == [True]
    await ready(store)
    assert (await store.order_power(command(), now=later(2))).is_new


async def test_what_an_agent_has_begun_outlives_the_machine(store: WholeStore) -> None:
    """It ends by itself; until then a machine that came back has it pending."""
    await ready(store)
    wish = await begun(store, command())

    await store.delete("skia-1", now=later(2), who="jo")
    await ready(store)
    assert not (await store.order_power(command(), now=later(3))).is_new
    (updated,) = await store.apply_power([step(wish, PowerStatus.DONE, 4)], now=later(4))

    assert (updated.after.power_status, updated.after.power_cycle) == ("done", False)
    assert (await store.order_power(command(), now=later(5))).is_new


# --- looking and forgetting --------------------------------------------------------------------------------------------


async def test_commands_are_listed_newest_first_by_pages(store: WholeStore) -> None:
    """With filters by machine, state and time."""
    wishes = []
    for number in range(5):
        machine_id = f"skia-{number % 2}"
        if number < 2:
            await ready(store, machine_id)
        wish = command(machine_id, at=later(number))
        await ordered(store, wish)
        wishes.append(wish)
        if number < 4:
            await store.apply_power([step(wish, PowerStatus.DONE)], now=later(number))

    async def ids(**conditions: object) -> list[int]:
        found = await store.power_commands(**conditions)  # type: ignore[arg-type]
        return [[each.id for each in wishes].index(each.command.id) for each in found]

    assert await ids() == [4, 3, 2, 1, 0]
    assert await ids(limit=2) == [4, 3]
    assert await ids(limit=2, before=wishes[3].id) == [2, 1]
    assert await ids(machine_id="skia-1") == [3, 1]
    assert await ids(machine_id="nobody") == []
    assert await ids(pending=True) == [4]
    assert await ids(pending=False) == [3, 2, 1, 0]
    assert await ids(since=later(3)) == [4, 3]
    assert await ids(machine_id="skia-0", pending=False, since=later(1)) == [2]
    with pytest.raises(ValueError, match="limit"):
        await store.power_commands(limit=0)


async def test_old_commands_are_forgotten_when_they_have_ended(store: WholeStore) -> None:
    """Those that are pending stay, however old."""
    wishes = []
    for number in range(3):
        await ready(store, f"skia-{number}")
        wishes.append(await ordered(store, command(f"skia-{number}", at=later(number))))
    await store.apply_power([step(wishes[1], PowerStatus.DONE), step(wishes[2], PowerStatus.DONE)], now=NOW)

    assert await store.forget_power(before=later(2)) == 1
    assert await store.forget_power(before=later(2)) == 0

    assert {each.command.id for each in await store.power_commands()} == {wishes[0].id, wishes[2].id}


# --- races -------------------------------------------------------------------------------------------------------------


async def test_a_command_is_for_the_agent_that_reported_the_outlet_last(store: WholeStore) -> None:
    """Two agents may have the same port in their configurations by mistake. Who has given it up does not count."""
    await ready(store)
    assert (await store.order_power(command(), now=NOW)).record.command.agent == ""
    await store.cancel_power("skia-1", now=NOW, who="jo@example.com")

    await store.apply_power([report(agent="rack5"), report(seconds=1)], now=later(1))
    queued = await store.order_power(command(), now=later(2))
    assert queued.record.command.agent == "rack4"
    assert (await record_of(store, queued.record.command)).command.agent == "rack4"
    sent = [row.message for row in await store.take(limit=100) if row.message.topic == POWER_COMMANDS]
    assert PowerCommand.model_validate_json(sent[-1].value).agent == "rack4"
    await store.cancel_power("skia-1", now=later(3), who="jo@example.com")

    gone = report(seconds=4, state=PowerCycleState.NOT_AVAILABLE)
    await store.apply_power([gone], now=later(4))
    await store.update("skia-1", setting(power_cycle_state="available"), now=later(5))
    assert (await store.order_power(command(), now=later(5))).record.command.agent == ""


async def test_two_who_ask_at_once_get_one_command(store: WholeStore) -> None:
    """On every machine of several."""
    machine_ids = [f"skia-{number}" for number in range(6)]
    for machine_id in machine_ids:
        await ready(store, machine_id)

    answers = await asyncio.gather(
        *(store.order_power(command(each), now=NOW) for each in machine_ids for _ in range(4))
    )

    assert sum(each.is_new for each in answers) == len(machine_ids)
    assert len(await store.power_commands()) == len(machine_ids)
    assert sum(topic == POWER_COMMANDS for topic, _ in await drained(store)) == len(machine_ids)


async def test_a_command_is_either_begun_or_withdrawn(store: WholeStore) -> None:
    """When both happen at once, one of them finds the other."""
    machine_ids = [f"skia-{number}" for number in range(6)]
    wishes = []
    for machine_id in machine_ids:
        await ready(store, machine_id)
        wishes.append(await ordered(store, command(machine_id)))

    async def withdraw(machine_id: str) -> bool:
        try:
            return await store.cancel_power(machine_id, now=later(1), who="jo") is not None
        except PowerRefused:
            return False

    async def both(wish: PowerCommand) -> bool:
        withdrawn, _ = await asyncio.gather(
            withdraw(wish.machine_id),
            store.apply_power([step(wish, PowerStatus.ACCEPTED)], now=later(1)),
        )
        return withdrawn

    for wish, withdrawn in zip(wishes, await asyncio.gather(*map(both, wishes)), strict=True):
        record = await record_of(store, wish)
        assert record.status is PowerStatus.ACCEPTED
        assert (PowerStatus.CANCELLED in passed(record)) == withdrawn
        assert record.command.cancelled == withdrawn
        assert (await store.get(wish.machine_id)).power_status == "accepted"


async def test_an_expired_command_makes_way_or_was_begun(store: WholeStore) -> None:
    """When somebody asks anew while its agent's word comes in, neither is lost and nothing is told twice."""
    machine_ids = [f"skia-{number}" for number in range(6)]
    late = NOW + EXPIRY
    for machine_id in machine_ids:
        await ready(store, machine_id)
    wishes = [await ordered(store, command(machine_id)) for machine_id in machine_ids]
    await drained(store)

    async def both(old: PowerCommand) -> bool:
        answers = await asyncio.gather(
            *(store.order_power(command(old.machine_id, at=late), now=late) for _ in range(2)),
            store.apply_power([step(old, PowerStatus.ACCEPTED, 599)], now=late),
        )
        return any(isinstance(each, Ordered) and each.is_new for each in answers)

    made_way = dict(zip(machine_ids, await asyncio.gather(*map(both, wishes)), strict=True))

    for old in wishes:
        record = await record_of(store, old)
        assert record.status is PowerStatus.ACCEPTED
        assert (PowerStatus.EXPIRED in passed(record)) is made_way[old.machine_id]
        pending = await store.power_commands(machine_id=old.machine_id, pending=True)
        assert len(pending) == 1 + made_way[old.machine_id]
    sent = [value for topic, value in await drained(store) if topic == POWER_COMMANDS]
    assert len(sent) == sum(made_way.values())


async def test_results_that_are_applied_twice_at_once_count_once(store: WholeStore) -> None:
    """Two writers, one of which was given up, and machines' events in between."""
    wishes = []
    for number in range(4):
        await ready(store, f"skia-{number}")
        wishes.append(await ordered(store, command(f"skia-{number}")))
    results: Sequence[PowerStep] = [each for wish in wishes for each in cycle(wish)]
    unseen = command("skia-unseen")
    results = [*results, step(unseen, PowerStatus.DONE, command=unseen)]

    async def beats() -> None:
        for number in range(10):
            changes = {wish.machine_id: [setting(battery=number)] for wish in wishes}
            await store.update_many(changes, now=later(number))

    told = await asyncio.gather(
        *(store.apply_power(results, now=later(5)) for _ in range(3)), beats(), beats()
    )

    assert sorted(sum(bool(updated.kinds) for updated in each or ()) for each in told[:3]) == [0, 0, 4]
    assert {tuple(passed(await record_of(store, each))) for each in wishes} == {tuple(PowerStatus)[:5]}
    assert passed(await record_of(store, unseen)) == [PowerStatus.QUEUED, PowerStatus.DONE]
    for wish in wishes:
        assert (await store.get(wish.machine_id)).power_status == "done"
