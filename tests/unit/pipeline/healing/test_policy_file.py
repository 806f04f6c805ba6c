"""The policy file says what is meant, or is refused with the pool and key that are wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pipeline.healing.policy import Policies, Policy
from pipeline.healing.policy_file import document_of, policies_of
from schemas.spans import span_text


def test_a_pool_has_what_it_says_then_what_the_star_says_then_the_defaults() -> None:
    every = {"attempts": 5, "after": "20m"}
    policies = policies_of({"pools": {"*": every, "Phones": {"attempts": 1, "pool_percent": 12.5}}}, "f")

    assert policies.of_machine(["Phones"]) == Policy(
        attempts=1, after=timedelta(minutes=20), pool_percent=12.5
    )
    assert policies.of_machine(["Boards"]) == Policy(attempts=5, after=timedelta(minutes=20))


@pytest.mark.parametrize(
    ("pools", "on"),
    [
        (["Phones"], True),
        (["Phones", "Off"], False),
        (["Unknown"], False),
        (["Phones", "Unknown"], False),
        ([], False),
    ],
)
def test_a_machine_is_left_alone_unless_each_of_its_pools_has_a_policy(pools: list[str], on: bool) -> None:
    policies = Policies({"Phones": Policy(), "Off": Policy(enabled=False)})
    assert (policies.of_machine(pools) is not None) is on


def test_without_a_file_it_is_off() -> None:
    assert Policies().is_off
    assert Policies({"*": Policy(enabled=False)}).is_off
    assert not Policies({"*": Policy()}).is_off


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "f: the file: expected an object in braces"),
        ({}, "f: pools: is missing"),
        ({"pools": {}, "lab": 1}, "f: lab: there is no such key"),
        ({"pools": {"Phones": 3}}, "f: pool 'Phones': its entry: expected an object in braces"),
        ({"pools": {"Phones": {"afte": "1h"}}}, "f: pool 'Phones': afte: there is no such key"),
        ({"pools": {"*": {"after": 600}}}, "f: pool '*': after: expected a span such as"),
        ({"pools": {"*": {"pause": "10 m"}}}, "f: pool '*': pause: expected a span such as"),
        ({"pools": {"*": {"pause": "0m"}}}, "f: pool '*': pause: must be from 1m to 30d"),
        (
            {"pools": {"*": {"attempts": 0}}},
            "f: pool '*': attempts: must be greater than or equal to 1",
        ),
        ({"pools": {"*": {"attempts": "3"}}}, "f: pool '*': attempts: must be a valid integer"),
        ({"pools": {"*": {"pool_percent": 101}}}, "f: pool '*': pool_percent: must be less than"),
        ({"pools": {"*": {"dry_run": 1}}}, "f: pool '*': dry_run: expected true or false"),
        ({"pools": {"*": {"after": "4m"}}}, "f: pool '*': after: must not be shorter than outage_span (5m)"),
        (
            {"pools": {"*": {"pause": "5h"}}},
            "f: pool '*': longest_pause: must not be shorter than pause (5h)",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(document: Any, told: str) -> None:
    with pytest.raises(ValueError) as refused:  # the text is looked at below
        policies_of(document, "f")
    assert str(refused.value).startswith(told)


def test_a_mistake_of_the_star_is_told_once_and_not_for_every_pool() -> None:
    pools = {"Phones": {"after": "20m"}, "Rack.4": {}, "*": {"afte": "1h", "pause": 3}, "Slow": {"pause": 4}}
    with pytest.raises(ValueError, match=r"^f: ") as refused:
        policies_of({"pools": pools}, "f")
    told = [part.partition(": ")[0] for part in str(refused.value).removeprefix("f: ").split("; ")]
    assert sorted(told) == ["pool '*'", "pool '*'", "pool 'Slow'"]

    with pytest.raises(ValueError, match=r"^f: pool '\*': longest_pause"):
        policies_of({"pools": {"Phones": {}, "*": {"pause": "5h"}}}, "f")


def test_policies_can_be_kept_and_read_again() -> None:
    policies = Policies(
        {"*": Policy(dry_run=True, factor=1.5), "Phones": Policy(enabled=False, window=timedelta(hours=36))},
        lab_percent=33.3,
        outage_span=timedelta(seconds=90),
    )
    assert policies_of(document_of(policies), "f") == policies


@pytest.mark.parametrize(("seconds", "text"), [(90, "90s"), (600, "10m"), (7200, "2h"), (86_400 * 2, "2d")])
def test_spans_are_told_in_the_largest_unit_that_fits(seconds: int, text: str) -> None:
    assert span_text(timedelta(seconds=seconds)) == text


def test_pauses_grow_up_to_the_longest_and_never_overflow() -> None:
    policy = Policy(factor=10)
    assert [policy.pause_after(tries) / policy.pause for tries in (0, 1, 2, 3)] == [1, 1, 10, 24]
    assert policy.pause_after(10_000) == policy.longest_pause


def test_one_machine_of_a_small_pool_may_always_be_cycled() -> None:
    assert [Policy(pool_percent=5).most_of_pool(size) for size in (0, 1, 39, 40, 2000)] == [1, 1, 1, 2, 100]
