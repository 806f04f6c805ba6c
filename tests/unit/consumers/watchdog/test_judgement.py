"""Silence counts only while we could hear."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from consumers.watchdog.judgement import is_silent
from consumers.watchdog.settings import WatchdogSettings
from pipeline.store.hearing import Deaf, Hearing, hearing
from pipeline.store.protocol import Progress
from schemas.description import Description

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def progress(
    service: str = "writer",
    instance: str = "0",
    *,
    alive: timedelta = timedelta(days=1),
    seen: float = 1,
    behind: float = 1,
) -> Progress:
    """An entry of a service that has been alive for so long, was seen and is behind so many seconds."""
    return Progress(service, instance, NOW - alive, NOW - seconds(seen), NOW - seconds(behind))


def machine(*, silent_for: float, pool: str = "Lab") -> Description:
    return Description(last_updated=NOW - seconds(silent_for), dimensions={"id": ["m"], "pool": [pool]})


SETTINGS = WatchdogSettings(period=seconds(30), period_of_pool={"Slow": seconds(300)})
ALL_DAY = Hearing(since=LONG_AGO, until=NOW)


@pytest.mark.parametrize(
    ("entries", "deaf"),
    [
        pytest.param([], "writer", id="nothing-ever-wrote"),
        pytest.param([progress(seen=16)], "writer", id="writer-away"),
        pytest.param([progress(), progress(instance="1", seen=16)], "writer", id="one-partition-unread"),
        pytest.param([progress("facade", "a")], "writer", id="only-a-facade"),
        pytest.param([progress(), progress("facade", "a", seen=16)], "facade", id="facade-away"),
    ],
)
def test_nothing_is_judged_while_a_service_is_away(entries: list[Progress], deaf: str) -> None:
    assert hearing(entries, now=NOW) == Deaf(deaf)


def test_judgement_reaches_to_where_the_slowest_partition_is() -> None:
    heard = hearing([progress(behind=1), progress(instance="1", behind=40)], now=NOW)

    assert heard == Hearing(LONG_AGO, NOW - seconds(40))


def test_judgement_begins_when_the_last_writer_began() -> None:
    heard = hearing([progress(), progress(instance="1", alive=seconds(20))], now=NOW)

    assert isinstance(heard, Hearing)
    assert heard.since == NOW - seconds(20)


def test_one_facade_of_several_is_enough_to_hear() -> None:
    entries = [progress(), progress("facade", "a", seen=100), progress("facade", "b", alive=seconds(60))]

    assert hearing(entries, now=NOW) == Hearing(NOW - seconds(60), NOW - seconds(1))


def test_a_facade_that_never_came_back_is_forgotten_after_an_hour() -> None:
    assert isinstance(hearing([progress(), progress("facade", "a", seen=3601)], now=NOW), Hearing)


@pytest.mark.parametrize(
    ("silent_for", "pool", "silent"),
    [
        (89, "Lab", False),
        (90, "Lab", False),
        (91, "Lab", True),
        (91, "Slow", False),
        (900, "Slow", False),
        (901, "Slow", True),
    ],
)
def test_a_machine_may_miss_three_reports_of_its_pool(silent_for: float, pool: str, silent: bool) -> None:
    assert is_silent(machine(silent_for=silent_for, pool=pool), ALL_DAY, SETTINGS) is silent


def test_what_has_not_been_applied_yet_may_be_a_sign_of_life() -> None:
    behind = Hearing(since=LONG_AGO, until=NOW - seconds(3600))

    assert not is_silent(machine(silent_for=3600), behind, SETTINGS)


def test_after_a_pause_of_ours_every_machine_has_its_three_periods_anew() -> None:
    assert not is_silent(machine(silent_for=86_400), Hearing(NOW - seconds(90), NOW), SETTINGS)
    assert is_silent(machine(silent_for=86_400), Hearing(NOW - seconds(91), NOW), SETTINGS)


def test_of_a_swarming_bot_its_server_says_whether_it_is_dead() -> None:
    bot = machine(silent_for=86_400).evolve({"device_kind": "swarming"})
    assert not is_silent(bot, ALL_DAY, SETTINGS)
