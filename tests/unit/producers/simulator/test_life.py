"""The life of a simulated machine."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from producers.simulator.catalogue import PHONES, Board, Machine, furnish
from producers.simulator.life import Life, Nature, born, lived, nature_of, reported

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CALM = Nature(
    has_battery=True,
    drain=60.0,
    charge=60.0,
    working_celsius=32.0,
    tasks=0.0,
    losses=0.0,
    silences=0.0,
    quarantine=0.0,
)
HOUR = timedelta(hours=1)


@pytest.fixture
def life() -> Life:
    return Life(at=NOW, monitor_start=NOW, device_boot=NOW - HOUR, battery=50.0)


@pytest.fixture
def chance() -> Random:
    return Random(1)


def test_the_same_chance_gives_the_same_life() -> None:
    machine = furnish(1, seed=1)[0]

    assert born(machine, now=NOW, chance=Random(3)) == born(machine, now=NOW, chance=Random(3))


def test_a_machine_is_born_in_full_swing_and_with_a_fresh_monitor() -> None:
    machines = furnish(200, seed=1)
    lives = [born(machine, now=NOW, chance=Random(machine.id)) for machine in machines]

    assert {life.monitor_start for life in lives} == {NOW}
    assert {life.sequence for life in lives} == {0}
    assert not any(life.silent for life in lives)
    assert 10 < sum(life.busy for life in lives) < 150


def test_an_idle_phone_charges(life: Life, chance: Random) -> None:
    after = lived(life, CALM, now=NOW + timedelta(minutes=30), chance=chance)

    assert after.battery == pytest.approx(80.0)


def test_a_battery_is_never_more_than_full(life: Life, chance: Random) -> None:
    assert lived(life, CALM, now=NOW + 5 * HOUR, chance=chance).battery == 100.0


def test_a_phone_under_a_task_drains_and_grows_warm(life: Life, chance: Random) -> None:
    busy = replace(life, task_left_s=7200.0)
    after = lived(busy, CALM, now=NOW + timedelta(minutes=30), chance=chance)

    assert after.battery == pytest.approx(20.0)
    assert after.celsius == pytest.approx(32.0, abs=1)


def test_a_phone_that_runs_hot_overheats_under_a_task(life: Life, chance: Random) -> None:
    machine = Machine("hot-one", PHONES[0], "S", runs_hot=True)
    after = lived(replace(life, task_left_s=3600.0), nature_of(machine), now=NOW + HOUR / 2, chance=chance)

    assert after.celsius > 35


def test_a_weak_battery_drains_faster_and_charges_slower() -> None:
    weak = nature_of(Machine("old-one", PHONES[0], "S", weak_battery=True))
    sound = nature_of(Machine("new-one", PHONES[0], "S"))

    assert weak.drain > sound.drain
    assert weak.charge < sound.charge


def test_a_board_has_no_battery_to_drain(life: Life, chance: Random) -> None:
    nature = nature_of(Machine("board-1", Board("nrf52840", "nrf52840"), "S"))

    assert lived(life, nature, now=NOW + HOUR, chance=chance).battery == life.battery


def test_no_task_begins_on_an_empty_battery_or_a_hot_phone(life: Life, chance: Random) -> None:
    eager = replace(CALM, tasks=1e6)
    soon = NOW + timedelta(seconds=1)

    assert lived(life, eager, now=soon, chance=chance).busy
    assert not lived(replace(life, battery=20.0), eager, now=soon, chance=chance).busy
    assert not lived(replace(life, celsius=40.0), eager, now=soon, chance=chance).busy


def test_after_a_task_the_device_has_rebooted(life: Life, chance: Random) -> None:
    after = lived(replace(life, task_left_s=10.0), CALM, now=NOW + timedelta(seconds=30), chance=chance)

    assert not after.busy
    assert after.device_uptime < timedelta(minutes=1)


def test_a_task_that_ends_badly_asks_for_quarantine_once_and_keeps_the_machine_idle(
    life: Life, chance: Random
) -> None:
    unlucky = replace(CALM, quarantine=1.0, tasks=1e6)
    after = lived(replace(life, task_left_s=10.0), unlucky, now=NOW + timedelta(seconds=30), chance=chance)

    assert after.quarantine_due
    assert not reported(after).quarantine_due
    assert not lived(after, unlucky, now=NOW + HOUR / 2, chance=chance).busy


def test_a_device_that_vanished_comes_back_booted(life: Life, chance: Random) -> None:
    absent = replace(life, absent_s=90.0)
    meanwhile = lived(absent, CALM, now=NOW + timedelta(seconds=60), chance=chance)
    after = lived(meanwhile, CALM, now=NOW + timedelta(seconds=120), chance=chance)

    assert not meanwhile.device_present
    assert after.device_present
    assert after.device_uptime < timedelta(minutes=1)


def test_a_task_ends_when_its_device_vanishes(life: Life, chance: Random) -> None:
    fragile = replace(CALM, losses=1e6)
    after = lived(replace(life, task_left_s=3600.0), fragile, now=NOW + timedelta(seconds=1), chance=chance)

    assert not after.device_present
    assert not after.busy


def test_a_host_that_comes_back_goes_on_counting_or_starts_afresh(life: Life) -> None:
    silent = replace(life, silent_s=60.0, sequence=7)
    backs = [lived(silent, CALM, now=NOW + timedelta(minutes=2), chance=Random(seed)) for seed in range(20)]

    assert {back.sequence for back in backs} == {0, 7}
    for back in backs:
        assert not back.silent
        assert (back.monitor_start > NOW) is (back.sequence == 0)


def test_every_report_has_the_next_number(life: Life) -> None:
    assert reported(reported(life)).sequence == 2


def test_in_a_day_a_lab_sees_everything() -> None:
    seen: set[str] = set()
    for machine in furnish(40, seed=2):
        chance = Random(machine.id)
        life = born(machine, now=NOW, chance=chance)
        for minutes in range(0, 24 * 60, 10):
            life = lived(life, nature_of(machine), now=NOW + timedelta(minutes=minutes), chance=chance)
            seen |= {"absent"} if not life.device_present else set()
            seen |= {"silent"} if life.silent else set()
            seen |= {"busy"} if life.busy else {"idle"}
            seen |= {"hot"} if life.celsius > 35 else set()
            seen |= {"low"} if life.battery < 30 else set()

    assert seen == {"absent", "silent", "busy", "idle", "hot", "low"}
