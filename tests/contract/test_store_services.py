"""What every store promises about the outbox, the progress of the services, leases, and checkpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from pipeline.store.protocol import PROGRESS_GAP, Checkpoint
from schemas.changes import MachineChange
from tests.contract.stores import NOW, STORES, WholeStore, open_store, setting


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[WholeStore]:
    async with open_store(request) as opened:
        yield opened


async def update(store: WholeStore, machine_id: str, battery: int) -> None:
    await store.update(machine_id, setting(battery=battery), now=NOW, create=True)


# --- outbox ------------------------------------------------------------------------------------------------------------


async def test_messages_wait_in_order_until_they_are_removed(store: WholeStore) -> None:
    """Within a key lower versions go first; taking does not remove."""
    for battery in (1, 2, 3):
        await update(store, "skia-b", battery)
        await update(store, "skia-a", battery)

    rows = await store.take(limit=100)

    assert await store.take(limit=100) == rows
    for machine_id in ("skia-a", "skia-b"):
        mine = [row for row in rows if row.message.key == machine_id]
        assert [row.version for row in mine] == [1, 2, 3]
        batteries = [MachineChange.model_validate_json(row.message.value).description.battery for row in mine]
        assert batteries == [1, 2, 3]


async def test_removed_messages_are_gone_and_the_others_stay(store: WholeStore) -> None:
    """Removing twice, or nothing, is harmless."""
    for battery in (1, 2, 3):
        await update(store, "skia-a", battery)
    first, second, third = await store.take(limit=100)

    await store.remove([first, second])
    await store.remove([first])
    await store.remove([])

    assert list(await store.take(limit=100)) == [third]


async def test_no_more_is_taken_than_asked_for(store: WholeStore) -> None:
    """A limited taking begins at the beginning of each key."""
    for battery in (1, 2, 3):
        await update(store, "skia-a", battery)

    assert [row.version for row in await store.take(limit=2)] == [1, 2]
    with pytest.raises(ValueError, match="limit"):
        await store.take(limit=0)


# --- progress ----------------------------------------------------------------------------------------------------------


async def test_progress_is_told_for_each_instance(store: WholeStore) -> None:
    """Who, since when alive, when last heard, how far."""
    behind = NOW - timedelta(seconds=1)
    await store.record("writer", {"0": behind, "1": NOW}, now=NOW)
    await store.record("facade", {"replica-1": NOW}, now=NOW)

    told = {(each.service, each.instance): each for each in await store.progress()}

    assert set(told) == {("writer", "0"), ("writer", "1"), ("facade", "replica-1")}
    assert told["writer", "0"].caught_up_to == behind
    assert told["writer", "0"].alive_since == told["writer", "0"].seen_at == NOW


async def test_a_service_is_alive_since_its_last_gap(store: WholeStore) -> None:
    """Saying so often enough keeps `alive_since`; a longer silence starts it anew."""
    await store.record("writer", {"0": NOW}, now=NOW)
    soon = NOW + PROGRESS_GAP
    await store.record("writer", {"0": soon}, now=soon)

    (progress,) = await store.progress()
    assert (progress.alive_since, progress.seen_at, progress.caught_up_to) == (NOW, soon, soon)

    late = soon + PROGRESS_GAP + timedelta(milliseconds=1)
    await store.record("writer", {"0": late}, now=late)

    (progress,) = await store.progress()
    assert (progress.alive_since, progress.seen_at) == (late, late)


async def test_no_instances_record_nothing(store: WholeStore) -> None:
    """A service without partitions has nothing to say."""
    await store.record("writer", {}, now=NOW)

    assert list(await store.progress()) == []


# --- leases ------------------------------------------------------------------------------------------------------------


async def test_a_lease_has_one_owner_at_a_time(store: WholeStore) -> None:
    """Others are told no; the owner may renew, and other names are others' business."""
    assert await store.acquire("outbox-relay", "a", seconds=60)
    assert not await store.acquire("outbox-relay", "b", seconds=60)
    assert await store.acquire("outbox-relay", "a", seconds=60)
    assert await store.acquire("watchdog", "b", seconds=60)


async def test_a_lease_that_has_run_out_can_be_taken_over(store: WholeStore) -> None:
    """And then the former owner is told no."""
    assert await store.acquire("outbox-relay", "a", seconds=0)
    assert await store.acquire("outbox-relay", "b", seconds=60)
    assert not await store.acquire("outbox-relay", "a", seconds=60)


async def test_a_lease_can_be_given_up_by_its_owner_only(store: WholeStore) -> None:
    """Giving up what is not ours changes nothing."""
    await store.acquire("outbox-relay", "a", seconds=60)

    await store.release("outbox-relay", "b")
    await store.release("nothing", "b")
    assert not await store.acquire("outbox-relay", "b", seconds=60)

    await store.release("outbox-relay", "a")
    assert await store.acquire("outbox-relay", "b", seconds=60)


# --- checkpoints -------------------------------------------------------------------------------------------------------


async def test_a_checkpoint_is_what_was_saved_last(store: WholeStore) -> None:
    """Each name has its own; any bytes will do."""
    assert await store.checkpoint("fleet-stats") is None

    assert await store.save_checkpoint("fleet-stats", Checkpoint(1, b"\x00one"), owner="a")
    assert await store.save_checkpoint("fleet-stats", Checkpoint(2, b"\xfftwo"), owner="a")

    assert await store.checkpoint("fleet-stats") == Checkpoint(2, b"\xfftwo")
    assert await store.checkpoint("other") is None


async def test_who_was_overtaken_saves_nothing(store: WholeStore) -> None:
    """A process that slept while another took over learns of it, and does no harm."""
    await store.save_checkpoint("fleet-stats", Checkpoint(1, b"old"), owner="sleeper")
    await store.save_checkpoint("fleet-stats", Checkpoint(2, b"new"), owner="successor")

    assert not await store.save_checkpoint("fleet-stats", Checkpoint(2, b"stale"), owner="sleeper")
    assert not await store.save_checkpoint("fleet-stats", Checkpoint(1, b"stale"), owner="sleeper")

    assert await store.checkpoint("fleet-stats") == Checkpoint(2, b"new")


async def test_a_checkpoint_may_be_saved_again_by_its_owner(store: WholeStore) -> None:
    """As happens when the database's answer was lost."""
    assert await store.save_checkpoint("fleet-stats", Checkpoint(1, b"one"), owner="a")
    assert await store.save_checkpoint("fleet-stats", Checkpoint(1, b"one"), owner="a")

    assert await store.checkpoint("fleet-stats") == Checkpoint(1, b"one")
