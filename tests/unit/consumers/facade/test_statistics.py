"""How the fleet does, over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from consumers.facade.keys import STATISTICS
from consumers.facade.settings import FacadeSettings
from consumers.facade.statistics import Statistics
from pipeline.broker.protocol import Outgoing
from pipeline.statistics.ledger import Ledger, window_of
from pipeline.statistics.observation import milliseconds
from pipeline.statistics.tally import Rules
from schemas.fleet_stats import WHOLE_FLEET, FleetStats
from schemas.health import Health
from schemas.topics import FLEET_STATS
from tests.unit.consumers.facade.lab import NOW, Lab, running, until
from tests.unit.pipeline.statistics.lives import read, seen

NOW_URL = "/api/v1/fleet/stats"
HISTORY_URL = "/api/v1/fleet/stats/history"
MINUTE = timedelta(minutes=1)


def window(number: int = 0, *, down: int = 0, pool: str = "Lab") -> list[FleetStats]:
    """A window so many minutes after `NOW`: four machines, some of them down."""
    start = milliseconds(NOW + number * MINUTE)
    ledger = Ledger.beginning(Rules(), at=start)
    health = [Health.DOWN] * down + [Health.AVAILABLE] * (4 - down)
    changes = [seen(f"m{n}", 1, 0, each, pool) for n, each in enumerate(health)]
    ledger.records = read(*changes).records
    shifted = window_of(ledger.records, read().floor, Rules())
    begin = NOW + number * MINUTE
    return [each.model_copy(update={"window_start": begin, "window_end": begin + MINUTE}) for each in shifted]


async def tell(lab: Lab, *windows: list[FleetStats]) -> None:
    """Publish windows, and wait until the façade has read them."""
    statistics = lab.app[STATISTICS]
    stats = [each for one in windows for each in one]
    wanted = statistics.position + len(stats)
    await lab.broker.publish(
        [Outgoing(FLEET_STATS, each.pool, each.model_dump_json().encode()) for each in stats]
    )
    await until(lambda: statistics.position >= wanted)


async def ask(lab: Lab, url: str, **parameters: str) -> Any:
    """The answer's JSON."""
    async with lab.http.get(url, params=parameters) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def test_the_latest_window_of_each_pool_is_told_the_whole_fleet_first(lab: Lab) -> None:
    await tell(lab, window(0), window(1, down=1))

    stats = (await ask(lab, NOW_URL))["stats"]

    assert [(each["pool"], each["availability_percent"]) for each in stats] == [
        (WHOLE_FLEET, 75),
        ("Lab", 75),
    ]
    assert stats[0]["window_start"] == "2026-03-01T12:01:00Z"
    assert [each["pool"] for each in (await ask(lab, NOW_URL, pool="Lab"))["stats"]] == ["Lab"]


async def test_before_the_first_window_nothing_is_told(lab: Lab) -> None:
    assert await ask(lab, NOW_URL) == {"stats": []}
    assert await ask(lab, HISTORY_URL) == {"pool": "*", "step_s": 60, "stats": []}


async def test_a_pool_that_was_emptied_is_not_told_as_it_was_once(lab: Lab) -> None:
    await tell(lab, window(0, pool="Old"), window(1, pool="New"), window(2, pool="New"))

    assert [each["pool"] for each in (await ask(lab, NOW_URL))["stats"]] == [WHOLE_FLEET, "New"]
    assert await ask(lab, NOW_URL, pool="Old") == {"stats": []}


async def test_while_the_messages_of_a_window_come_one_by_one_no_pool_is_missing(lab: Lab) -> None:
    await tell(lab, window(0), window(1)[:1])

    stats = (await ask(lab, NOW_URL))["stats"]

    assert [(each["pool"], each["window_start"]) for each in stats] == [
        (WHOLE_FLEET, "2026-03-01T12:01:00Z"),
        ("Lab", "2026-03-01T12:00:00Z"),
    ]


async def test_a_step_that_is_too_short_is_refused_before_anything_is_read(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tell(lab, *(window(number) for number in range(60)))
    read: list[int] = []
    windows = Statistics.windows

    async def counted(self: Statistics, pool: str, starts: Sequence[datetime]) -> list[FleetStats]:
        read.append(len(starts))
        return await windows(self, pool, starts)

    monkeypatch.setattr(Statistics, "windows", counted)
    async with lab.http.get(HISTORY_URL, params={"step": "1", "since": "2026-03-01T00:00:00Z"}) as response:
        assert response.status == 422

    assert read == [2]


async def test_what_has_not_changed_need_not_be_sent_again(lab: Lab) -> None:
    await tell(lab, window(0))
    async with lab.http.get(NOW_URL) as response:
        etag = response.headers["ETag"]

    async with lab.http.get(NOW_URL, headers={"If-None-Match": etag}) as response:
        assert (response.status, response.headers["ETag"]) == (304, etag)
    await tell(lab, window(1))
    async with lab.http.get(NOW_URL, headers={"If-None-Match": etag}) as response:
        assert response.status == 200


async def test_a_window_that_is_told_again_replaces_itself(lab: Lab) -> None:
    await tell(lab, window(0, down=2), window(0, down=1))

    stats = (await ask(lab, HISTORY_URL))["stats"]

    assert [each["availability_percent"] for each in stats] == [75]


async def test_history_is_told_oldest_first_and_by_default_an_hour_of_it(lab: Lab) -> None:
    await tell(lab, *(window(number) for number in range(90)))

    history = await ask(lab, HISTORY_URL)

    assert (history["step_s"], len(history["stats"])) == (60, 60)
    assert history["stats"][0]["window_start"] == "2026-03-01T12:30:00Z"
    starts = [each["window_start"] for each in history["stats"]]
    assert starts == sorted(starts)


async def test_history_between_two_times_in_steps(lab: Lab) -> None:
    await tell(lab, *(window(number, down=number % 2) for number in range(30)))

    history = await ask(
        lab,
        HISTORY_URL,
        pool="Lab",
        since="2026-03-01T12:10:00Z",
        until="2026-03-01T12:20:00Z",
        step="300",
    )

    assert [each["window_start"] for each in history["stats"]] == [
        "2026-03-01T12:10:00Z",
        "2026-03-01T12:15:00Z",
    ]
    first = history["stats"][0]
    assert first["window_end"] == "2026-03-01T12:15:00Z"
    assert first["seconds_by_state"]["down"] == 2 * 60
    assert first["availability_percent"] == pytest.approx(90)
    assert first["machines_by_state"]["down"] == 0  # as in the last of them


async def test_a_long_history_comes_in_steps_that_are_few_enough(lab: Lab) -> None:
    await tell(lab, *(window(number) for number in range(700)))

    history = await ask(lab, HISTORY_URL, since="2026-03-01T00:00:00Z")

    assert history["step_s"] == 180
    assert len(history["stats"]) == 234


@pytest.mark.parametrize(
    ("url", "parameters", "status", "named"),
    [
        (NOW_URL, {"pool": "Nowhere"}, 404, "Nowhere"),
        (HISTORY_URL, {"pool": "Nowhere"}, 404, "Nowhere"),
        (NOW_URL, {"pool": "../etc"}, 422, "pool"),
        (HISTORY_URL, {"step": "0"}, 422, "step"),
        (HISTORY_URL, {"step": "1", "since": "2026-03-01T00:00:00Z"}, 422, "step"),
        (HISTORY_URL, {"since": "yesterday"}, 422, "since"),
        (HISTORY_URL, {"since": "2026-03-02T00:00:00Z", "until": "2026-03-01T00:00:00Z"}, 422, "since"),
        (HISTORY_URL, {"colour": "red"}, 422, "colour"),
    ],
)
async def test_what_cannot_be_answered_is_said_in_a_problem_document(
    lab: Lab, url: str, parameters: dict[str, str], status: int, named: str
) -> None:
    await tell(lab, *(window(number) for number in range(40)))

    async with lab.http.get(url, params=parameters) as response:
        problem = await response.json()

    assert (response.status, response.content_type) == (status, "application/problem+json")
    assert named in problem["detail"]


async def test_a_replica_that_starts_later_knows_what_was_told_before() -> None:
    async with running() as first:
        first.clock.advance(timedelta(hours=1))
        await tell(first, window(0))
        async with running(broker=first.broker) as second:
            await until(lambda: second.app[STATISTICS].position >= 2)

            assert len((await ask(second, NOW_URL))["stats"]) == 2


async def test_what_is_no_window_is_passed_over(lab: Lab) -> None:
    await lab.broker.publish([Outgoing(FLEET_STATS, "Lab", b'{"pool": 5}')])
    await tell(lab, window(0))

    assert len((await ask(lab, NOW_URL))["stats"]) == 2


def test_no_more_is_remembered_than_allowed() -> None:
    statistics = Statistics(FacadeSettings(stats_entries=10, stats_kept=timedelta(minutes=8)))

    for number in range(100):
        for each in window(number):
            statistics.take(each)
            assert statistics._entries <= 10

    assert statistics.end_of("Lab") == NOW + 100 * MINUTE
    starts: list[datetime] = list(statistics._pools["Lab"])
    assert starts[0] >= NOW + 95 * MINUTE


def test_a_pool_that_is_gone_for_long_is_forgotten() -> None:
    statistics = Statistics(FacadeSettings(stats_kept=timedelta(minutes=5)))
    for each in [*window(0, pool="Old"), *window(60, pool="New")]:
        statistics.take(each)

    assert statistics.pools == ["*", "New"]
