"""What the windows tell of machines' changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.statistics.ledger import Ledger
from pipeline.statistics.observation import Observation
from pipeline.statistics.tally import Rules, merged, stats_of, tallies
from schemas.fleet_stats import WHOLE_FLEET
from schemas.health import Health
from tests.unit.pipeline.statistics.lives import MINUTE, RULES, T0, fleet, lives, read, seen, told

pytestmark = pytest.mark.slow

UP, BUSY, DOWN = Health.AVAILABLE, Health.BUSY, Health.DOWN
RECOVERING, MAINTENANCE = Health.RECOVERING, Health.MAINTENANCE
HOUR_S = 3600


def test_availability_is_the_share_of_machine_time_in_which_tasks_may_run() -> None:
    ledger = read(
        seen("a", 1, -10, UP),
        seen("b", 1, -10, BUSY),
        seen("b", 2, 30, DOWN),
        seen("c", 1, -10, MAINTENANCE),
        seen("d", 1, 45, UP),
    )

    stats = fleet(ledger)

    assert stats.seconds_by_state == {**dict.fromkeys(Health, 0), UP: 75, BUSY: 30, DOWN: 30, MAINTENANCE: 60}
    assert stats.availability_percent == pytest.approx(100 * 105 / 195, abs=0.001)
    assert stats.machines == 4
    assert stats.machines_by_state == {**dict.fromkeys(Health, 0), UP: 2, DOWN: 1, MAINTENANCE: 1}


def test_a_fleet_without_machines_has_no_availability() -> None:
    stats = fleet(read())

    assert (stats.machines, stats.availability_percent, stats.recovery_p50_s) == (0, None, None)


def test_a_silent_machine_goes_on_in_its_state_from_window_to_window() -> None:
    ledger = read(seen("a", 1, 30, DOWN))

    assert [each[WHOLE_FLEET].seconds_by_state[DOWN] for each in told(ledger, 3)] == [30, 60, 60]


def test_a_change_of_a_later_window_does_not_change_an_earlier_one() -> None:
    changes = [seen("a", 1, 30, UP), seen("a", 2, 90, DOWN), seen("a", 3, 200, UP)]

    assert told(read(*changes), 1) == told(read(changes[0]), 1)
    assert told(read(*changes), 2) == told(read(*changes[:2]), 2)


def test_what_is_counted_per_second_are_versions_and_not_repeats() -> None:
    ledger = read(seen("a", 1, 1, UP), seen("a", 2, 2, UP), seen("a", 2, 3, UP), seen("a", 1, 4, DOWN))

    stats = fleet(ledger)

    assert (stats.changes, stats.changes_per_second) == (2, round(2 / 60, 3))
    assert stats.machines_by_state[UP] == 1


def test_time_to_recover_runs_from_failing_to_running_tasks_again() -> None:
    ledger = read(
        seen("a", 1, 0, UP),
        seen("a", 2, 10, RECOVERING),
        seen("a", 3, 20, DOWN),
        seen("a", 4, 30, MAINTENANCE, is_faulty=False),
        seen("a", 5, 50, BUSY),
    )

    stats = fleet(ledger)

    assert (stats.recoveries, stats.recoveries_per_hour) == (1, 60)
    assert stats.recovery_p50_s == pytest.approx(40, rel=0.05)
    assert stats.recovery_p95_s == stats.recovery_p50_s


def test_maintenance_alone_is_no_failure_and_its_end_no_recovery() -> None:
    ledger = read(seen("a", 1, 0, UP), seen("a", 2, 10, MAINTENANCE), seen("a", 3, 40, UP))

    assert fleet(ledger).recoveries == 0
    assert fleet(ledger).availability_percent == pytest.approx(50)


def test_a_recovery_counts_in_the_window_in_which_it_ends() -> None:
    ledger = read(seen("a", 1, 0, DOWN), seen("a", 2, 2 * HOUR_S + 30, UP))

    windows = [each[WHOLE_FLEET] for each in told(ledger, 122)]

    assert [each.recoveries for each in windows[-3:]] == [0, 1, 0]
    assert windows[120].recovery_p50_s == pytest.approx(2 * HOUR_S + 30, rel=0.05)


def test_a_machine_that_keeps_failing_is_flapping_until_it_has_been_quiet_for_a_while() -> None:
    changes = [seen("a", number, 10 * number, DOWN if number % 2 else UP) for number in range(1, 8)]
    ledger = read(seen("quiet", 1, 0, UP), *changes)

    first, second = (each[WHOLE_FLEET] for each in told(ledger, 2))

    assert [(each.id, each.changes) for each in first.flapping] == []  # 4 turns by then: not more than 4
    assert [(each.id, each.changes) for each in second.flapping] == [("a", 6)]
    windows = [each[WHOLE_FLEET] for each in told(ledger, 40)]
    assert windows[29].flapping_total == 1
    assert windows[31].flapping_total == 0


def test_so_many_flapping_machines_are_named_and_the_others_counted() -> None:
    changes = [
        seen(f"m{machine:02}", number, number, DOWN if number % 2 else UP)
        for machine in range(25)
        for number in range(1, 8 + machine % 2)
    ]

    stats = fleet(read(*changes))

    assert (len(stats.flapping), stats.flapping_total) == (20, 25)
    assert stats.flapping[0].changes >= stats.flapping[-1].changes


def test_pools_are_told_apart_and_the_fleet_is_their_sum() -> None:
    ledger = read(seen("a", 1, 0, UP, "Lab"), seen("b", 1, 0, DOWN, "Phones"))

    (window,) = told(ledger, 1)

    assert set(window) == {"Lab", "Phones", WHOLE_FLEET}
    assert (window["Lab"].availability_percent, window["Phones"].availability_percent) == (100, 0)
    assert window[WHOLE_FLEET].availability_percent == 50


def test_a_machine_counts_for_the_pool_that_it_is_in_at_the_windows_end() -> None:
    ledger = read(seen("a", 1, 0, UP, "Lab"), seen("a", 2, 59, UP, "Phones"))

    (window,) = told(ledger, 1)

    assert set(window) == {"Phones", WHOLE_FLEET}
    assert window["Phones"].changes == 2


def test_a_deleted_machine_counts_as_long_as_it_was_there() -> None:
    ledger = read(seen("a", 1, 0, UP), seen("a", 2, 15, None, ""))

    first, second = told(ledger, 2)

    assert first["Lab"].seconds_by_state[UP] == 15
    assert (first["Lab"].machines, first["Lab"].changes) == (0, 2)
    assert second[WHOLE_FLEET].availability_percent is None


def test_news_from_before_a_deletion_does_not_bring_a_machine_back() -> None:
    ledger = read(seen("a", 3, 0, None, ""), seen("a", 2, 5, UP))

    assert fleet(ledger).machines == 0
    assert "a" in ledger.records
    ledger.told(T0 + 2 * 24 * HOUR_S * 1000)
    ledger.forget_gone()
    assert ledger.records == {}


def test_a_change_that_comes_after_its_window_was_told_counts_for_the_state_only() -> None:
    ledger = read(seen("a", 1, 0, UP))
    ledger.told(T0 + MINUTE)

    assert ledger.apply(seen("a", 2, 30, DOWN))

    stats = fleet(ledger)
    assert (stats.changes, stats.seconds_by_state[DOWN]) == (0, 60)


def test_what_is_told_needs_no_more_than_the_open_windows() -> None:
    ledger = read(*(seen("a", number, 30 * number, UP) for number in range(1, 100)))
    ledger.told(T0 + 40 * MINUTE)
    ledger.apply(seen("a", 100, 3000, UP))

    record = ledger.records["a"]
    assert [span.start for span in record.spans][:2] == [T0 + 39 * MINUTE, T0 + 40 * MINUTE]


def test_other_windows_than_before_go_on_from_how_things_stood() -> None:
    ledger = read(seen("a", 1, 10, DOWN), seen("b", 1, 70, UP))
    ledger.told(T0 + MINUTE)
    wider = Rules(window=5 * RULES.window)

    again = Ledger.from_json(ledger.to_json(), wider)

    assert again.floor == T0 + 5 * MINUTE
    again.apply(seen("a", 2, 360, UP))
    assert fleet(again).seconds_by_state == {**dict.fromkeys(Health, 0), DOWN: 60, UP: 540}


# --- properties --------------------------------------------------------------------------------------------------------


def interleaved(data: st.DataObject, each: list[list[Observation]]) -> list[Observation]:
    """All changes in some order that keeps each machine's, some of them again, or late."""
    queues = [list(life) for life in each if life]
    order: list[Observation] = []
    while queues:
        queue = data.draw(st.sampled_from(queues))
        order.append(queue.pop(0))
        if data.draw(st.booleans()):
            order.append(data.draw(st.sampled_from(order)))
        queues = [left for left in queues if left]
    return order


@given(lives(), st.data())
def test_repeats_and_the_order_of_machines_make_no_difference(
    each: list[list[Observation]], data: st.DataObject
) -> None:
    straight = read(*(change for life in each for change in life))

    shuffled = read(*interleaved(data, each))

    assert told(shuffled, 20) == told(straight, 20)


@given(lives(), st.integers(1, 4))
def test_workers_that_share_the_machines_tell_together_what_one_tells(
    each: list[list[Observation]], workers: int
) -> None:
    whole = read(*(change for life in each for change in life))
    parts = [read(*(change for life in each[n::workers] for change in life)) for n in range(workers)]

    for start in range(T0, T0 + 20 * MINUTE, MINUTE):
        together = merged(tallies(part.records.items(), start, RULES) for part in parts)
        stats = [stats_of(together[pool], pool, start, RULES) for pool in sorted(together)]
        alone = merged([tallies(whole.records.items(), start, RULES)])
        assert stats == [stats_of(alone[pool], pool, start, RULES) for pool in sorted(alone)]


@given(lives(), st.data())
def test_a_crash_and_a_second_reading_tell_the_same(
    each: list[list[Observation]], data: st.DataObject
) -> None:
    """State kept at some moment, windows told as far as everything was read, and then much of it again."""
    changes = sorted((change for life in each for change in life), key=lambda change: change.at)
    undisturbed = told(read(*changes), 20)
    crash = data.draw(st.integers(0, len(changes)))
    read_until = changes[crash].at if crash < len(changes) else T0 + 20 * MINUTE
    done = data.draw(st.integers(0, (read_until - T0) // MINUTE))
    before = read(*changes[:crash])
    before.told(T0 + done * MINUTE)

    after = Ledger.from_json(before.to_json(), RULES)
    for change in changes[data.draw(st.integers(0, crash)) :]:
        after.apply(change)

    assert told(after, 20 - done) == undisturbed[done:]


@given(lives())
def test_all_time_is_accounted_for(each: list[list[Observation]]) -> None:
    """A machine that is there for a whole window spends all of it in some state."""
    ledger = read(*(change for life in each for change in life))

    for window in told(ledger, 20):
        pools = [stats for pool, stats in window.items() if pool != WHOLE_FLEET]
        whole = window[WHOLE_FLEET]
        assert whole.machines == sum(stats.machines for stats in pools)
        assert whole.changes == sum(stats.changes for stats in pools)
        assert sum(whole.seconds_by_state.values()) <= 60 * len(each) + 0.001
        assert sum(whole.machines_by_state.values()) == whole.machines
