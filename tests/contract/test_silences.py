"""What every store promises about silences. The docstrings are the promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import timedelta

import pytest

from pipeline.clock import SystemClock
from pipeline.errors import Rejected
from schemas.silence import Silence
from schemas.wire import to_milliseconds
from tests.contract.stores import STORES, SharedDatabases, WholeStore, open_store

NOW = to_milliseconds(SystemClock().now())
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def databases(request: pytest.FixtureRequest) -> Iterator[SharedDatabases]:
    with ExitStack() as stack:
        yield SharedDatabases(request, stack)


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, databases: SharedDatabases) -> AsyncIterator[WholeStore]:
    async with open_store(request, databases) as opened:
        yield opened


def silence(silence_id: str = "a", **fields: object) -> Silence:
    given = {"owner": "jo", "reason": "new cables", "machine": "rack4-*", "pool": "Skia", **fields}
    return Silence.model_validate({"id": silence_id, "starts_at": NOW, "ends_at": NOW + HOUR, **given})


async def test_a_silence_comes_back_as_it_was_added(store: WholeStore) -> None:
    """By id; one with the same id replaces it."""
    await store.add_silence(silence("b"))
    await store.add_silence(silence("a", reason="old"))
    await store.add_silence(silence("a", reason="n\"e'w\\ ☃", starts_at=NOW + HOUR / 2))

    found = await store.silences(now=NOW)

    assert found == [silence("a", reason="n\"e'w\\ ☃", starts_at=NOW + HOUR / 2), silence("b")]


async def test_a_silence_that_has_ended_is_no_longer_among_them(store: WholeStore) -> None:
    """The end itself does not belong to it."""
    await store.add_silence(silence())

    assert await store.silences(now=NOW + HOUR - timedelta(milliseconds=1)) == [silence()]
    assert await store.silences(now=NOW + HOUR) == []


async def test_a_silence_can_be_ended(store: WholeStore) -> None:
    """Once."""
    await store.add_silence(silence())

    assert await store.end_silence("a", now=NOW + HOUR / 2)
    assert not await store.end_silence("a", now=NOW + HOUR / 2)
    assert not await store.end_silence("nobody", now=NOW)
    assert await store.silences(now=NOW + HOUR / 2) == []
    assert await store.silences(now=NOW) == [silence(ends_at=NOW + HOUR / 2)]


async def test_silences_that_ended_lately_can_be_looked_up(store: WholeStore) -> None:
    """For ninety days."""
    long_ago, lately = NOW - timedelta(days=91), NOW - timedelta(days=89)
    await store.add_silence(silence("old", starts_at=long_ago - HOUR, ends_at=long_ago))
    await store.add_silence(silence("ended", starts_at=lately - HOUR, ends_at=lately))
    await store.add_silence(silence("lasting", starts_at=lately, ends_at=NOW + HOUR))

    assert [each.id for each in await store.silences()] == ["ended", "lasting"]
    assert [each.id for each in await store.silences(now=NOW)] == ["lasting"]


async def test_text_that_no_database_takes_is_rejected(store: WholeStore) -> None:
    """And nothing is kept."""
    with pytest.raises(Rejected):
        await store.add_silence(silence().model_copy(update={"reason": "a\x00b"}))
    assert await store.silences(now=NOW) == []
