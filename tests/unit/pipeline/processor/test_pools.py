"""Pools."""

from __future__ import annotations

import pytest

from pipeline.processor.pools import Pools

POOLS = Pools([("SkiaInternal", "^skia-i-"), ("Skia", "^skia-")])


@pytest.mark.parametrize(
    ("machine_id", "pool"),
    [("skia-i-rpi-1", "SkiaInternal"), ("skia-rpi-1", "Skia"), ("my-skia-1", "PoolNotFound")],
)
def test_the_first_pool_that_matches_takes_the_machine(machine_id: str, pool: str) -> None:
    assert POOLS.pool_of(machine_id) == pool


def test_a_regex_may_match_anywhere_and_an_empty_one_matches_all() -> None:
    pools = Pools([("Odd", "pi-[13579]"), ("Rest", "")])
    assert pools.pool_of("skia-rpi-31") == "Odd"
    assert pools.pool_of("skia-rpi-2") == "Rest"


def test_without_pools_no_pool_is_found() -> None:
    assert Pools(()).pool_of("skia-rpi-1") == "PoolNotFound"


@pytest.mark.parametrize(
    ("pool", "valid"),
    [
        (["Skia"], True),
        (["SkiaInternal"], True),
        (["Skia", "SkiaInternal"], False),
        (["skia"], False),
        (["PoolNotFound"], False),
        ([], False),
        (None, False),
    ],
)
def test_exactly_one_configured_pool_is_valid(pool: list[str] | None, valid: bool) -> None:
    assert POOLS.are_valid_in({"id": ["other"], "pool": pool}) == valid
    assert not POOLS.are_valid_in({})


@pytest.mark.parametrize("name", ["S", "skia", "Skia-2.b_c"])
def test_names_that_a_pool_may_have(name: str) -> None:
    assert Pools([(name, "")]).pool_of("x") == name


@pytest.mark.parametrize("name", ["", "1skia", "-skia", "ski a", "skia\n", "skiä", "äskia", "sk/ia"])
def test_a_bad_name_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(ValueError, match="a pool's name is a letter, then letters, digits") as raised:
        Pools([("Fine", ""), (name, "")])
    assert repr(name) in str(raised.value)


@pytest.mark.parametrize("regex", ["(", "[a", "*", "a{99999999999999999999}", "(?P<x", "\\"])
def test_a_bad_regex_is_refused_with_the_pool(regex: str) -> None:
    with pytest.raises(ValueError, match=r"pool 'Broken': .* is not a regular expression"):
        Pools([("Fine", ""), ("Broken", regex)])
