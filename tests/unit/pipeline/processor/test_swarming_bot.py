"""What a Swarming server's word does to machines without a monitor of ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.processor.process import process
from schemas.description import Description
from schemas.event import RAW_STATE, SWARMING_BOT, Event, Host, Standalone, SwarmingBot
from schemas.wire import ZERO_TIME

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLLER_START = NOW - timedelta(hours=1)
LAST_SEEN = NOW - timedelta(minutes=20)


def bot_event(bot: SwarmingBot, sequence: int = 1) -> Event:
    return Event(
        type=SWARMING_BOT,
        host=Host(name="rack4-07", start_time=POLLER_START),
        sequence=sequence,
        swarming=bot,
    )


def bot(**fields: object) -> SwarmingBot:
    return SwarmingBot(server="https://swarm.example", dimensions={"os": ["Linux"]}).evolve(fields)


def unknown() -> Description:
    return Description.new("rack4-07", now=NOW)


def test_a_living_bot_is_a_machine_that_is_up() -> None:
    after = process(unknown(), bot_event(bot(task_id="5a1")), now=NOW).after
    assert after.dimensions == {"id": ["rack4-07"], "os": ["Linux"]}
    assert (after.last_updated, after.is_down, after.running_swarming_task) == (NOW, False, True)
    assert (after.device_kind, after.recovering) == ("swarming", "")


def test_a_dead_bot_is_down_since_it_called_last() -> None:
    after = process(unknown(), bot_event(bot(is_dead=True, last_seen=LAST_SEEN)), now=NOW).after
    assert (after.down_since, after.last_updated) == (LAST_SEEN, LAST_SEEN)


def test_a_dead_bot_that_never_called_is_down_from_now_on_and_stays_so() -> None:
    first = process(unknown(), bot_event(bot(is_dead=True)), now=NOW).after
    again = process(first, bot_event(bot(is_dead=True), 2), now=NOW + timedelta(minutes=1)).after
    assert first.down_since == again.down_since == NOW


def test_a_bot_that_calls_again_is_up_again() -> None:
    dead = process(unknown(), bot_event(bot(is_dead=True, last_seen=LAST_SEEN)), now=NOW).after
    after = process(dead, bot_event(bot(), 2), now=NOW + timedelta(minutes=1)).after
    assert (after.down_since, after.last_updated) == (ZERO_TIME, NOW + timedelta(minutes=1))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"quarantine": "disk full"}, "Quarantined in Swarming: disk full"),
        ({"maintenance": "new cable"}, "Maintenance in Swarming: new cable"),
        ({"device_missing": True, "quarantine": "no device"}, "Device has gone missing"),
        (
            {"device_missing": True, "dimensions": {"device_type": ["sargo"]}},
            'Device ["sargo"] has gone missing',
        ),
    ],
)
def test_a_bot_that_takes_no_tasks_recovers_and_says_why(fields: dict[str, object], reason: str) -> None:
    troubled = process(unknown(), bot_event(bot(**fields)), now=NOW).after
    assert (troubled.recovering, troubled.recovery_start) == (reason, NOW)
    assert troubled.annotation.message == reason
    well = process(troubled, bot_event(bot(), 2), now=NOW + timedelta(minutes=1)).after
    assert (well.recovering, well.annotation.message) == ("", "Leaving recovery mode.")


def test_a_machine_with_a_monitor_is_left_alone() -> None:
    monitored = process(unknown(), _monitors(), now=NOW).after
    outcome = process(monitored, bot_event(bot(is_dead=True, last_seen=LAST_SEEN)), now=NOW)
    assert outcome.after is monitored
    assert not outcome.replayed


def test_a_monitor_that_began_before_the_poller_is_heard() -> None:
    told = process(unknown(), bot_event(bot(), 7), now=NOW).after
    outcome = process(told, _monitors(), now=NOW + timedelta(seconds=1))
    assert not outcome.replayed
    assert outcome.after.device_kind == "standalone"
    assert outcome.after.dimension("cores") == ["8"]


def test_the_same_poll_twice_counts_once() -> None:
    dead = process(unknown(), bot_event(bot(is_dead=True, last_seen=LAST_SEEN), 1), now=NOW).after
    alive = process(dead, bot_event(bot(), 2), now=NOW).after
    again = process(alive, bot_event(bot(is_dead=True, last_seen=LAST_SEEN), 1), now=NOW)
    assert again.replayed
    assert again.after is alive


def test_the_bots_own_id_and_quarantine_are_ours_to_say() -> None:
    dimensions = {"id": ["somebody-else"], "quarantined": ["1"], "gpu": ["none"]}
    after = process(unknown(), bot_event(bot(dimensions=dimensions)), now=NOW).after
    assert after.dimensions == {"id": ["rack4-07"], "gpu": ["none"]}


def _monitors() -> Event:
    return Event(
        type=RAW_STATE,
        host=Host(name="rack4-07", version="1.2", start_time=POLLER_START - timedelta(days=1)),
        standalone=Standalone(cores=8, os_versions=["Linux"]),
        sequence=3,
    )
