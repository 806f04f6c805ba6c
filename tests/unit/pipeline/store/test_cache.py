from __future__ import annotations

from pipeline.store.cache import RowCache
from schemas.description import Description


def row(version: int) -> Description:
    return Description(row_version=version)


def test_only_the_right_version_is_found() -> None:
    cache = RowCache(10)
    cache.remember({"a": row(3), "b": row(1)})

    assert cache.find([("a", 3), ("b", 2), ("c", 1)]) == {"a": row(3)}


def test_the_least_recently_used_goes_first() -> None:
    cache = RowCache(2)
    cache.remember({"a": row(1)})
    cache.remember({"b": row(1)})
    cache.find([("a", 1)])
    cache.remember({"c": row(1)})

    assert set(cache.find([("a", 1), ("b", 1), ("c", 1)])) == {"a", "c"}


def test_a_cache_without_room_remembers_nothing() -> None:
    cache = RowCache(0)
    cache.remember({"a": row(1)})

    assert cache.find([("a", 1)]) == {}


def test_clearing_forgets_everything() -> None:
    cache = RowCache(2)
    cache.remember({"a": row(1)})
    cache.clear()

    assert cache.find([("a", 1)]) == {}
