"""What every store promises about machines. The docstrings are the promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from pipeline.errors import MachineNotFound, Rejected, VersionMismatch
from pipeline.processor.normalize import normalize
from pipeline.processor.operators import toggle_mode
from pipeline.store.protocol import Change
from schemas.changes import ChangeKind, MachineChange
from schemas.description import Annotation, Description
from schemas.wire import ZERO_TIME
from tests.contract.stores import (
    NOW,
    POOLS,
    STORES,
    WholeStore,
    add,
    filled,
    open_store,
    setting,
    toggled_power,
    unchanged,
)

HEARTBEAT = (ChangeKind.HEARTBEAT,)


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[WholeStore]:
    async with open_store(request) as opened:
        yield opened


def beat(before: Description) -> Description:
    return before.model_copy(update={"battery": before.battery + 1, "last_updated": NOW})


def toggled(before: Description) -> Description:
    return toggle_mode(before, user="jo@example.com", now=NOW)


# --- updates -----------------------------------------------------------------------------------------------------------


async def test_an_unknown_machine_starts_from_the_defaults(store: WholeStore) -> None:
    """`create` makes a machine from `Description.new`, in version 1, and says so."""
    updated = await store.update("skia-1", beat, now=NOW, create=True)

    assert updated.after.row_version == 1
    assert updated.after.attached_device == "nodevice"
    assert updated.after.power_cycle_state == "not_available"
    assert updated.after.dimensions == {"id": ["skia-1"], "task_type": ["swarming"], "pool": ["Skia"]}
    assert updated.kinds[0] is ChangeKind.CREATED
    assert await store.get("skia-1") == updated.after


async def test_an_unknown_machine_is_not_made_by_accident(store: WholeStore) -> None:
    """Without `create`, an unknown machine is `MachineNotFound`, and stays unknown."""
    with pytest.raises(MachineNotFound):
        await store.update("skia-1", beat, now=NOW)
    with pytest.raises(MachineNotFound):
        await store.get("skia-1")
    assert await store.take(limit=10) == []


@pytest.mark.parametrize("machine_id", ["", "-x", "a b", "a\x00b", "ü", "x" * 129, 'a"b', "a\n"])
async def test_a_malformed_id_names_no_machine(store: WholeStore, machine_id: str) -> None:
    """Ids that break the rule are never created (`Rejected`), and otherwise unknown."""
    with pytest.raises(Rejected):
        await store.update(machine_id, beat, now=NOW, create=True)
    with pytest.raises(Rejected):
        await store.update_many({"skia-1": [beat], machine_id: [beat]}, now=NOW)
    with pytest.raises(MachineNotFound):
        await store.update(machine_id, beat, now=NOW)
    with pytest.raises(MachineNotFound):
        await store.get(machine_id)
    assert not await store.delete(machine_id, now=NOW, who="jo")
    assert await store.history(machine_id) == []
    assert (await store.list()).machines == []


@pytest.mark.parametrize("machine_id", ["NULL", "null", "x" * 128, "0", "a.b_c-d", "true"])
async def test_ids_that_look_like_something_else_are_ids(store: WholeStore, machine_id: str) -> None:
    """Any id that keeps the rule can be stored and found."""
    await store.update_many({machine_id: [beat]}, now=NOW)

    (again,) = await store.update_many({machine_id: [beat]}, now=NOW)

    assert again.after.row_version == 2
    assert (await store.get(machine_id)).dimension("id") == [machine_id]


async def test_every_field_comes_back_as_it_was_written(store: WholeStore) -> None:
    """No field is lost, rounded or reformatted, however awkward its text; also not by a later heartbeat."""
    wanted = filled("skia-1")
    await store.update_many({"skia-1": [lambda _: wanted]}, now=NOW)
    normal = normalize(wanted, POOLS, "skia-1")

    assert await store.get("skia-1") == normal.model_copy(update={"row_version": 1})

    await store.update("skia-1", setting(battery=5), now=NOW)

    assert await store.get("skia-1") == normal.model_copy(update={"row_version": 2, "battery": 5})
    assert (await store.list()).machines == [await store.get("skia-1")]


async def test_zero_values_come_back_as_zero_values(store: WholeStore) -> None:
    """The zero time, null maps and empty texts stay apart from one another."""
    await store.update_many({"skia-1": [lambda _: Description()]}, now=NOW)

    found = await store.get("skia-1")

    assert found.last_updated == ZERO_TIME
    assert found.temperature is None
    assert found.task_request is None
    assert found.annotation == Annotation()
    assert found.model_dump_json() == normalize(Description(row_version=1), POOLS, "skia-1").model_dump_json()


async def test_what_update_returns_is_what_get_returns(store: WholeStore) -> None:
    """`Updated.after` is the row."""
    first = await store.update("skia-1", toggled, now=NOW, create=True)
    second = await store.update("skia-1", beat, now=NOW)

    assert first.after.row_version == 1
    assert second.after == await store.get("skia-1")
    assert second.kinds == HEARTBEAT


async def test_the_rules_of_normalize_hold_for_every_row(store: WholeStore) -> None:
    """Empty dimensions go, pool and task type come, the quarantine is restated, times are cut to milliseconds."""
    change = setting(
        dimensions={"gpu": [], "cpu": None, "os": ["Android"]},
        supplied_dimensions=None,
        recovering="Too hot.",
        last_updated=NOW + timedelta(microseconds=999),
    )

    await store.update_many({"skia-i-1": [change]}, now=NOW)

    found = await store.get("skia-i-1")
    assert found.dimensions == {
        "id": ["skia-i-1"],
        "os": ["Android"],
        "task_type": ["swarming"],
        "pool": ["SkiaInternal"],
        "quarantined": ["Recovering: Too hot."],
    }
    assert found.supplied_dimensions == {}
    assert found.last_updated == NOW


async def test_a_change_that_finds_nothing_to_do_writes_nothing(store: WholeStore) -> None:
    """Returning the same object leaves row, history and outbox alone."""
    before = await add(store, "skia-1")

    one = await store.update("skia-1", unchanged, now=NOW)
    (many,) = await store.update_many({"skia-1": [unchanged, unchanged]}, now=NOW)
    (none,) = await store.update_many({"skia-1": []}, now=NOW)

    assert list(one.kinds) == list(many.kinds) == list(none.kinds) == []
    assert one.after == many.after == none.after == before == await store.get("skia-1")
    assert await store.take(limit=10) == []


async def test_nothing_to_do_makes_no_machine(store: WholeStore) -> None:
    """An unknown machine that nobody changed stays unknown; `after` is what it would have started from."""
    (updated,) = await store.update_many({"skia-1": [unchanged]}, now=NOW)

    assert list(updated.kinds) == []
    assert updated.after.row_version == 0
    with pytest.raises(MachineNotFound):
        await store.get("skia-1")


async def test_a_batch_answers_in_the_order_it_was_asked(store: WholeStore) -> None:
    """One result for each machine asked for, in the same order, new or old, changed or not."""
    await add(store, "skia-b")
    await add(store, "skia-d")

    updates = await store.update_many(
        {"skia-d": [beat], "skia-a": [toggled], "skia-c": [], "skia-b": [unchanged]}, now=NOW
    )

    assert [each.machine_id for each in updates] == ["skia-d", "skia-a", "skia-c", "skia-b"]
    assert [each.after.row_version for each in updates] == [2, 1, 0, 1]


async def test_a_batch_folds_the_changes_of_one_machine(store: WholeStore) -> None:
    """Each change sees what the one before made, and the row is written once."""
    await add(store, "skia-1", battery=10)

    (updated,) = await store.update_many({"skia-1": [beat, unchanged, beat, toggled, beat]}, now=NOW)

    assert updated.after.battery == 13
    assert updated.after.row_version == 2
    assert list(updated.kinds) == [ChangeKind.MODE]


async def test_a_batch_leaves_what_single_calls_would_leave(store: WholeStore) -> None:
    """Row and history are the same, whether changes come together or one by one; only the version tells."""
    steps: list[Change] = [
        setting(dimensions={"id": ["skia-x"], "gpu": [], "os": ["Android"]}),
        toggled,
        setting(recovering="Too hot.", battery=3),
        unchanged,
        toggled,
        setting(recovering=""),
    ]
    for machine_id in ("skia-a", "skia-b"):
        await add(store, machine_id, dimensions={"id": ["skia-x"]})
    created = len(await store.history("skia-a"))

    await store.update_many({"skia-a": steps}, now=NOW)
    for step in steps:
        await store.update_many({"skia-b": [step]}, now=NOW)

    one, other = await store.get("skia-a"), await store.get("skia-b")
    assert one == other.model_copy(update={"row_version": 2})
    assert await words(store, "skia-a", behind=created) == await words(store, "skia-b", behind=created)


async def words(store: WholeStore, machine_id: str, *, behind: int) -> list[tuple[ChangeKind, str, str]]:
    """The history in words, oldest first, without its first lines."""
    entries = list(reversed(await store.history(machine_id)))
    return [(each.kind, each.before, each.after) for each in entries[behind:]]


async def test_a_rejected_change_undoes_the_whole_batch(store: WholeStore) -> None:
    """`Rejected` surfaces, and no machine of the batch has changed."""
    before = await add(store, "skia-1")

    def refuse(_: Description) -> Description:
        raise Rejected("no")

    with pytest.raises(Rejected, match="no"):
        await store.update_many({"skia-1": [beat], "skia-2": [refuse]}, now=NOW)

    assert await store.get("skia-1") == before
    assert [each.dimension("id") for each in (await store.list()).machines] == [["skia-1"]]


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"], ids=["nul", "surrogate"])
@pytest.mark.parametrize(
    "field", ["note", "version", "recovering", "dimensions", "supplied_dimensions", "temperature"]
)
async def test_text_that_no_database_takes_is_rejected(store: WholeStore, text: str, field: str) -> None:
    """NUL characters and lone surrogates undo the call with `Rejected`, wherever they are; the store goes on."""
    value: object = {
        "note": Annotation.model_construct(message=text),
        "dimensions": {"id": ["skia-1"], "os": [text]},
        "supplied_dimensions": {"gpu": [text]},
        "temperature": {text: 3.5},
    }.get(field, text)

    with pytest.raises(Rejected):
        await store.update_many({"skia-1": [beat], "skia-2": [setting(**{field: value})]}, now=NOW)

    assert (await store.list()).machines == []
    await add(store, "skia-1")


async def test_a_wrong_person_is_rejected(store: WholeStore) -> None:
    """Text that no database takes is `Rejected` in `who` and `why`, too."""
    with pytest.raises(Rejected):
        await store.update("skia-1", toggled, now=NOW, who="jo\x00", create=True)
    with pytest.raises(Rejected):
        await store.update("skia-1", toggled, now=NOW, why="jo\x00", create=True)
    assert (await store.list()).machines == []


async def test_a_bug_in_a_change_surfaces(store: WholeStore) -> None:
    """What is not `Rejected` surfaces as it is, and nothing was written."""

    def broken(_: Description) -> Description:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.update_many({"skia-1": [beat], "skia-2": [broken]}, now=NOW)

    assert (await store.list()).machines == []


async def test_concurrent_updates_of_one_machine_all_count(store: WholeStore) -> None:
    """No update is lost or applied twice, whoever else writes at the same time."""
    await add(store, "skia-1", battery=0)

    await asyncio.gather(*[store.update("skia-1", beat, now=NOW) for _ in range(25)])
    await asyncio.gather(*[store.update_many({"skia-1": [beat]}, now=NOW) for _ in range(25)])

    found = await store.get("skia-1")
    assert (found.battery, found.row_version) == (50, 51)


async def test_an_empty_batch_does_nothing(store: WholeStore) -> None:
    """No machines, no results."""
    assert list(await store.update_many({}, now=NOW)) == []


# --- history -----------------------------------------------------------------------------------------------------------


async def test_the_history_tells_who_did_what_when_and_why(store: WholeStore) -> None:
    """One line for each difference, newest first, with the reason that was given."""
    await store.update("skia-1", beat, now=NOW, create=True)
    later = NOW + timedelta(seconds=5)

    await store.update("skia-1", toggled, now=later, who="jo@example.com", why="broken fan")

    newest, *_, oldest = await store.history("skia-1")
    assert (newest.machine_id, newest.kind, newest.at) == ("skia-1", ChangeKind.MODE, later)
    assert (newest.who, newest.why) == ("jo@example.com", "broken fan")
    assert (newest.before, newest.after) == ("", "jo@example.com 2026-03-01T12:30:15Z")
    assert (oldest.kind, oldest.who, oldest.at) == (ChangeKind.CREATED, "labkeeper", NOW)


async def test_heartbeats_leave_no_history(store: WholeStore) -> None:
    """A mere heartbeat is `heartbeat`, and no line."""
    await add(store, "skia-1")
    lines = await store.history("skia-1")

    (updated,) = await store.update_many({"skia-1": [beat, beat]}, now=NOW)

    assert tuple(updated.kinds) == HEARTBEAT
    assert await store.history("skia-1") == lines


async def test_steps_that_cancel_one_another_out_have_their_lines(store: WholeStore) -> None:
    """Within a call, too, the history has every step, in order."""
    await add(store, "skia-1")

    (updated,) = await store.update_many({"skia-1": [toggled, toggled]}, now=NOW)

    second, first, *_ = [each for each in await store.history("skia-1") if each.kind is ChangeKind.MODE]
    assert (first.before, second.after) == ("", "")
    assert first.after == second.before != ""
    assert ChangeKind.MODE in updated.kinds


async def test_history_keeps_its_order_within_a_millisecond(store: WholeStore) -> None:
    """Newer entries have greater ids, also when everything happens at once."""
    await add(store, "skia-1")
    for number in range(20):
        await store.update("skia-1", setting(recovering=f"reason {number}"), now=NOW)

    entries = [each for each in await store.history("skia-1") if each.kind is ChangeKind.RECOVERY]

    assert [each.after for each in entries] == [f"reason {number}" for number in reversed(range(20))]
    assert [each.id for each in entries] == sorted((each.id for each in entries), reverse=True)


async def test_history_comes_by_pages(store: WholeStore) -> None:
    """`before` continues behind an entry; a page is never longer than its limit."""
    await add(store, "skia-1")
    for number in range(5):
        await store.update("skia-1", setting(recovering=f"reason {number}"), now=NOW)
    everything = await store.history("skia-1")

    first = await store.history("skia-1", limit=3)
    rest = await store.history("skia-1", before=first[-1].id)

    assert len(first) == 3
    assert [*first, *rest] == list(everything)
    with pytest.raises(ValueError, match="limit"):
        await store.history("skia-1", limit=0)


async def test_old_history_can_be_forgotten(store: WholeStore) -> None:
    """Lines older than a moment go, newer ones stay, and the count is told."""
    await store.update("skia-1", toggled, now=NOW - timedelta(days=100), create=True)
    old = len(await store.history("skia-1"))
    await store.update("skia-1", toggled, now=NOW)

    assert await store.forget_history(before=NOW - timedelta(days=90)) == old
    assert {each.at for each in await store.history("skia-1")} == {NOW}
    assert await store.forget_history(before=NOW - timedelta(days=90)) == 0


async def test_the_history_of_many_machines_is_forgotten_whether_they_are_still_there_or_not(
    store: WholeStore,
) -> None:
    """Deleted machines and returned ones, too; as many as there are."""
    then = NOW - timedelta(days=100)
    ids = [f"m{number:04d}" for number in range(1200)]
    await store.update_many({each: [toggled] for each in ids}, now=then)
    for machine_id in ("m0000", "m0600", "m1199"):
        await store.delete(machine_id, now=then, who="jo")
    await store.update_many({"m0600": [toggled]}, now=then)
    written = sum([len(await store.history(each)) for each in ids])

    assert await store.forget_history(before=NOW) == written > 2400
    assert not any([await store.history(each) for each in ids])


async def test_history_is_forgotten_to_the_microsecond(store: WholeStore) -> None:
    """A line written at the very moment stays, one written just before it goes."""
    moment = NOW + timedelta(microseconds=500)
    await store.update("skia-1", toggled, now=moment - timedelta(microseconds=1), create=True)
    await store.update("skia-1", toggled, now=moment)

    assert await store.forget_history(before=moment) > 0

    assert {each.at for each in await store.history("skia-1")} == {moment}


# --- messages ----------------------------------------------------------------------------------------------------------


async def test_an_update_leaves_its_message_in_the_outbox(store: WholeStore) -> None:
    """The message is the machine's new state, with version, kinds and who."""
    await add(store, "skia-1")

    updated = await store.update("skia-1", toggled, now=NOW, who="jo@example.com")

    (row,) = await store.take(limit=10)
    assert (row.message.topic, row.message.key) == ("machine.changes", "skia-1")
    assert (row.version, row.written_at) == (2, NOW)
    change = MachineChange.model_validate_json(row.message.value)
    assert (change.id, change.version, change.who) == ("skia-1", 2, "jo@example.com")
    assert change.kinds == list(updated.kinds)
    assert change.description == updated.after
    assert row.message.headers["ce_type"] == "dev.labkeeper.machine.change"


async def test_a_batch_leaves_no_messages(store: WholeStore) -> None:
    """Whoever calls `update_many` publishes the changes itself."""
    await store.update_many({"skia-1": [toggled]}, now=NOW)

    assert await store.take(limit=10) == []


async def test_a_deletion_is_announced_with_an_empty_value(store: WholeStore) -> None:
    """It comes behind the machine's earlier messages."""
    await store.update("skia-1", toggled, now=NOW, create=True)

    assert await store.delete("skia-1", now=NOW, who="jo@example.com")

    first, second = await store.take(limit=10)
    assert first.message.value != b""
    assert (second.message.key, second.message.value, second.version) == ("skia-1", b"", 2)


# --- deletion ----------------------------------------------------------------------------------------------------------


async def test_a_deleted_machine_is_gone_but_its_history_stays(store: WholeStore) -> None:
    """The last line says who deleted it."""
    await add(store, "skia-1")

    assert await store.delete("skia-1", now=NOW, who="jo@example.com", why="sold")

    with pytest.raises(MachineNotFound):
        await store.get("skia-1")
    assert (await store.list()).machines == []
    newest = (await store.history("skia-1"))[0]
    assert (newest.kind, newest.who, newest.why) == (ChangeKind.DELETED, "jo@example.com", "sold")


async def test_deleting_what_is_not_there_says_so(store: WholeStore) -> None:
    """False, and neither message nor history."""
    assert not await store.delete("skia-1", now=NOW, who="jo@example.com")
    assert await store.take(limit=10) == []
    assert await store.history("skia-1") == []


async def test_a_change_sees_the_version_that_it_would_replace(store: WholeStore) -> None:
    """So it can refuse a machine that has changed meanwhile, without a race."""
    await add(store, "skia-1")
    await store.update_many({"skia-1": [beat]}, now=NOW)
    seen: list[int] = []

    def refuse(before: Description) -> Description:
        seen.append(before.row_version)
        raise VersionMismatch("skia-1", before.row_version)

    with pytest.raises(VersionMismatch):
        await store.update("skia-1", refuse, now=NOW)

    assert seen == [2]
    assert (await store.get("skia-1")).row_version == 2


async def test_a_machine_that_has_changed_meanwhile_is_not_deleted(store: WholeStore) -> None:
    """Nothing happens to it; in a version that the caller names it goes."""
    await add(store, "skia-1")
    await store.update_many({"skia-1": [beat]}, now=NOW)
    history = await store.history("skia-1")

    with pytest.raises(VersionMismatch, match="in version 2"):
        await store.delete("skia-1", now=NOW, who="jo", versions=[1, 3])

    assert (await store.get("skia-1")).row_version == 2
    assert await store.history("skia-1") == history
    assert not await store.delete("skia-2", now=NOW, who="jo", versions=[1])
    assert await store.delete("skia-1", now=NOW, who="jo", versions=[1, 2])


async def test_a_machine_that_comes_back_goes_on_counting(store: WholeStore) -> None:
    """Higher is newer, also across a deletion; nothing else of its former life returns."""
    await add(store, "skia-1", battery=77)
    await store.update_many({"skia-1": [beat]}, now=NOW)
    await store.delete("skia-1", now=NOW, who="jo")

    (back,) = await store.update_many({"skia-1": [setting(last_updated=NOW)]}, now=NOW)

    assert back.kinds[0] is ChangeKind.CREATED
    assert back.after.row_version == 4
    assert (await store.get("skia-1")).battery == 0


# --- questions ---------------------------------------------------------------------------------------------------------


async def test_machines_whose_power_cycle_is_wanted_are_listed_by_id(store: WholeStore) -> None:
    """Sorted ids, nothing else."""
    for machine_id in ("skia-c", "skia-a", "skia-b"):
        await add(store, machine_id, power_cycle=machine_id != "skia-b")

    assert list(await store.list_powercycle()) == ["skia-a", "skia-c"]

    await store.update("skia-a", toggled_power, now=NOW)

    assert list(await store.list_powercycle()) == ["skia-c"]


async def test_free_machines_are_those_that_may_get_work(store: WholeStore) -> None:
    """Right pool, task type sktask, available and idle; sorted by id."""
    skia = {"task_type": ["sktask"], "pool": ["Skia"]}
    await add(store, "skia-2", dimensions=skia)
    await add(store, "skia-1", dimensions=skia)
    await add(store, "skia-3", dimensions={"pool": ["Skia"]})
    await add(store, "skia-4", dimensions={**skia, "pool": ["SkiaInternal"]})
    await add(store, "skia-5", dimensions=skia, maintenance_mode="jo")
    await add(store, "skia-6", dimensions=skia, is_quarantined=True)
    await add(store, "skia-7", dimensions=skia, recovering="Too hot.")
    await add(store, "skia-8", dimensions=skia, down_since=NOW)
    await add(store, "skia-9", dimensions=skia, task_request=filled("x").task_request)
    await add(store, "skia-a", dimensions=skia, running_swarming_task=True)

    assert [each.dimension("id") for each in await store.free_machines("Skia")] == [["skia-1"], ["skia-2"]]
    assert list(await store.free_machines("elsewhere")) == []


async def test_silent_machines_are_those_not_heard_since(store: WholeStore) -> None:
    """Sorted by id; a machine already marked down is old news."""
    await add(store, "skia-2", last_updated=NOW - timedelta(seconds=61))
    await add(store, "skia-1", last_updated=NOW - timedelta(seconds=62))
    await add(store, "skia-3", last_updated=NOW - timedelta(seconds=60))
    await add(store, "skia-4", last_updated=NOW - timedelta(seconds=90), down_since=NOW)

    silent = await store.silent_machines(since=NOW - timedelta(seconds=60))

    assert [each.dimension("id") for each in silent] == [["skia-1"], ["skia-2"]]


async def test_a_store_that_works_says_so(store: WholeStore) -> None:
    """`check` returns."""
    await store.check()
