"""What every store promises about listings: filters, order, pages."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import orjson
import pytest

from pipeline.store.protocol import Change, Query, SortKey
from schemas.description import Annotation, Description
from schemas.health import Health
from tests.contract.stores import NOW, STORES, WholeStore, add, filled, open_store, setting


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[WholeStore]:
    async with open_store(request) as opened:
        yield opened


def ids(machines: Sequence[Description]) -> list[str]:
    return [each.dimension("id")[0] for each in machines]


async def found(store: WholeStore, query: Query) -> list[str]:
    return ids((await store.list(query)).machines)


async def test_without_conditions_everything_is_listed_by_id(store: WholeStore) -> None:
    """All machines in one page; nothing at all is an empty page."""
    assert (await store.list()).machines == []
    for machine_id in ("skia-b", "skia-c", "skia-a"):
        await add(store, machine_id)

    page = await store.list()

    assert ids(page.machines) == ["skia-a", "skia-b", "skia-c"]
    assert page.next_cursor is None


async def test_dimensions_must_hold_the_value_among_theirs(store: WholeStore) -> None:
    """All named dimensions, each with that value among its values; odd names and values are mere text."""
    await add(store, "skia-1", dimensions={"os": ["Android"], "device_os": ["Q", "QQ2A"]})
    await add(store, "skia-2", dimensions={"os": ["Android"], "device_os": ["R"]})
    await add(store, "skia-3", dimensions={"os": ["iOS"], 'o"d': ["x' OR TRUE --", "%s"]})

    assert await found(store, Query(dimensions={"os": "Android"})) == ["skia-1", "skia-2"]
    assert await found(store, Query(dimensions={"os": "Android", "device_os": "QQ2A"})) == ["skia-1"]
    assert await found(store, Query(dimensions={"os": "Andr"})) == []
    assert await found(store, Query(dimensions={"nothing": "here"})) == []
    assert await found(store, Query(dimensions={'o"d': "x' OR TRUE --"})) == ["skia-3"]


async def test_health_filters_must_all_hold(store: WholeStore) -> None:
    """A machine can be in several states; `available` excludes the others, `busy` does not."""
    await add(store, "skia-1")
    await add(store, "skia-2", maintenance_mode="jo")
    await add(store, "skia-3", is_quarantined=True)
    await add(store, "skia-4", recovering="Too hot.", maintenance_mode="jo")
    await add(store, "skia-5", down_since=NOW)
    await add(store, "skia-6", running_swarming_task=True)
    await add(store, "skia-7", task_request=filled("x").task_request, is_quarantined=True)

    assert await found(store, Query(health=[Health.AVAILABLE])) == ["skia-1", "skia-6"]
    assert await found(store, Query(health=[Health.MAINTENANCE])) == ["skia-2", "skia-4"]
    assert await found(store, Query(health=[Health.QUARANTINED])) == ["skia-3", "skia-7"]
    assert await found(store, Query(health=[Health.RECOVERING, Health.MAINTENANCE])) == ["skia-4"]
    assert await found(store, Query(health=[Health.DOWN])) == ["skia-5"]
    assert await found(store, Query(health=[Health.BUSY])) == ["skia-6", "skia-7"]
    assert await found(store, Query(health=[Health.BUSY, Health.AVAILABLE])) == ["skia-6"]


async def test_the_attached_device_is_a_condition(store: WholeStore) -> None:
    """Exactly this device; the empty one, too."""
    await add(store, "skia-1", attached_device="adb")
    await add(store, "skia-2", attached_device="ios")
    await add(store, "skia-3", attached_device="")

    assert await found(store, Query(attached_device="adb")) == ["skia-1"]
    assert await found(store, Query(attached_device="")) == ["skia-3"]


@pytest.mark.parametrize(
    "text",
    ["SARGO", "sar", "skia-1", "Maint", "ümlä", "JO@", "a%b_c\\d", "too   hot", "hot sargo", "MAẞE"],
)
async def test_every_word_must_occur_somewhere_in_any_case(store: WholeStore, text: str) -> None:
    """In id, dimensions, notes, annotation or state texts; nothing in a word is special."""
    await add(
        store,
        "skia-1",
        dimensions={"device_type": ["sargo"]},
        recovering="Too hot.",
        maintenance_mode="maintenance by Mel",
        note=Annotation(message="ÜMLÄUT a%b_c\\d masse", user="jo@example.com", timestamp=NOW),
    )
    await add(store, "other", dimensions={"device_type": ["walleye"]}, note=Annotation(message="aXb"))

    assert await found(store, Query(text=text)) == ["skia-1"]


async def test_a_word_that_occurs_nowhere_finds_nothing(store: WholeStore) -> None:
    """And no words find everything. The text that is searched follows the machine's changes."""
    await add(store, "skia-1", recovering="Too hot.")

    assert await found(store, Query(text="hot cold")) == []
    assert await found(store, Query(text="  ")) == ["skia-1"]

    await store.update("skia-1", setting(recovering="Too cold."), now=NOW)

    assert await found(store, Query(text="hot")) == []
    assert await found(store, Query(text="cold")) == ["skia-1"]


async def fleet(store: WholeStore, size: int = 40) -> None:
    def machine(number: int) -> Change:
        return setting(
            attached_device=("adb", "ios", "")[number % 3],
            last_updated=NOW + timedelta(milliseconds=number * 7 % 11),
            battery=number * 13 % 17 - 8,
            device_uptime_s=number % 5,
            maintenance_mode="jo" if number % 4 == 0 else "",
            recovering=("Too hot." * 100)[: number % 6 * 100],
            version=f"v{number % 7}",
            down_since=NOW + timedelta(seconds=number % 3),
        )

    await store.update_many({f"m{number:05d}": [machine(number)] for number in range(size)}, now=NOW)


KEYS = {
    SortKey.ATTACHED_DEVICE: "attached_device",
    SortKey.LAST_UPDATED: "last_updated",
    SortKey.BATTERY: "battery",
    SortKey.DEVICE_UPTIME: "device_uptime_s",
    SortKey.MAINTENANCE_MODE: "maintenance_mode",
    SortKey.RECOVERING: "recovering",
    SortKey.VERSION: "version",
    SortKey.DOWN_SINCE: "down_since",
}


def _beginning(value: Any) -> Any:
    return value[:256] if isinstance(value, str) else value


async def all_pages(store: WholeStore, query: Query, *, limit: int) -> list[Description]:
    machines: list[Description] = []
    cursor: str | None = None
    while True:
        page = await store.list(query, limit=limit, cursor=cursor)
        machines.extend(page.machines)
        cursor = page.next_cursor
        if cursor is None:
            return machines
        assert len(page.machines) == limit


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("sort", list(SortKey))
async def test_pages_add_up_to_the_sorted_whole(store: WholeStore, sort: SortKey, descending: bool) -> None:
    """Any order, any direction: sorted, ties by ascending id, every machine exactly once, whatever the page size. Of
    texts the first 256 characters count.
    """
    await fleet(store)
    query = Query(sort=sort, descending=descending)

    whole = (await store.list(query)).machines

    wanted = sorted(whole, key=lambda each: ids([each])[0])
    if sort is SortKey.ID:
        wanted.sort(key=lambda each: ids([each])[0], reverse=descending)
    else:
        wanted.sort(key=lambda each: _beginning(getattr(each, KEYS[sort])), reverse=descending)
    assert ids(whole) == ids(wanted)
    assert len(whole) == 40
    for limit in (1, 7, 40, 1000):
        assert await all_pages(store, query, limit=limit) == whole


async def test_filters_and_pages_go_together(store: WholeStore) -> None:
    """A page continues within the condition."""
    await fleet(store)
    query = Query(attached_device="adb", health=[Health.DOWN], text="m0", sort=SortKey.BATTERY)

    assert await all_pages(store, query, limit=3) == (await store.list(query)).machines


async def test_paging_through_20000_machines_is_complete(store: WholeStore) -> None:
    """A large fleet comes whole, each machine once."""
    for start in range(0, 20_000, 1000):
        await store.update_many(
            {f"m{number:05d}": [setting(battery=number % 101)] for number in range(start, start + 1000)},
            now=NOW,
        )

    by_id = await all_pages(store, Query(), limit=1000)
    by_battery = await all_pages(store, Query(sort=SortKey.BATTERY, descending=True), limit=3000)

    assert ids(by_id) == [f"m{number:05d}" for number in range(20_000)]
    assert [each.battery for each in by_battery] == sorted((n % 101 for n in range(20_000)), reverse=True)
    assert len(set(ids(by_battery))) == 20_000


async def test_a_page_continues_though_machines_come_and_go(store: WholeStore) -> None:
    """Also when the last machine of the page before has gone, or moved."""
    await fleet(store, 10)
    first = await store.list(limit=4)

    await store.delete("m00003", now=NOW, who="jo")
    await add(store, "m00003a")
    await add(store, "m00000a")
    second = await store.list(limit=100, cursor=first.next_cursor)

    assert ids(second.machines)[0] == "m00003a"
    assert len(second.machines) == 7


def cursor_of(*plain: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(plain)).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "nonsense!",
        "ÿ",
        "AAAA",
        cursor_of(),
        cursor_of("id", False, "m"),
        cursor_of("battery", False, 1, "m"),
        cursor_of("id", True, "m", "m"),
        cursor_of("id", False, 1, "m"),
        cursor_of("id", False, "m", None),
        cursor_of("id", False, "m", "a\0"),
        cursor_of("id", False, "m\0", "a"),
        base64.urlsafe_b64encode(b"[" * 5000).decode(),
    ],
)
async def test_a_foreign_cursor_is_refused(store: WholeStore, cursor: str) -> None:
    """Whatever is not one of ours, or belongs to another order, is a ValueError."""
    with pytest.raises(ValueError, match="cursor"):
        await store.list(cursor=cursor)


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        (SortKey.BATTERY, "1"),
        (SortKey.BATTERY, True),
        (SortKey.BATTERY, 1.5),
        (SortKey.BATTERY, 2**63),
        (SortKey.LAST_UPDATED, "yesterday"),
        (SortKey.LAST_UPDATED, "2026-01-01T00:00:00"),
        (SortKey.LAST_UPDATED, 5),
        (SortKey.VERSION, 5),
    ],
)
async def test_a_cursor_with_a_wrong_key_is_refused(store: WholeStore, sort: SortKey, key: object) -> None:
    """The key must be of the order's type."""
    with pytest.raises(ValueError, match="cursor"):
        await store.list(Query(sort=sort), cursor=cursor_of(sort.value, False, key, "m"))


async def test_a_page_holds_at_least_one_machine(store: WholeStore) -> None:
    """A limit below 1 is a ValueError."""
    for limit in (0, -1):
        with pytest.raises(ValueError, match="limit"):
            await store.list(limit=limit)
