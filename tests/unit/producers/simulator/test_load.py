"""The load generator's events are real events."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest

from pipeline.processor.process import process
from producers.simulator.load import EventSize, load_events, load_ids
from schemas.description import Description
from schemas.event import Event

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(("size", "length"), [(EventSize.SMALL, 1_000), (EventSize.REAL, 35_000)])
def test_events_have_the_promised_size(size: EventSize, length: int) -> None:
    for _, value in islice(load_events(20, size, start_time=NOW), 20):
        assert len(value) == pytest.approx(length, rel=0.15)


@pytest.mark.parametrize("size", list(EventSize))
def test_every_event_is_that_of_its_machine(size: EventSize) -> None:
    for machine_id, value in islice(load_events(15, size, start_time=NOW), 40):
        event = Event.model_validate_json(value)
        assert event.host.name == machine_id
        assert event.host.start_time == NOW
        assert event.device_kind == "android"
        assert f"[{machine_id}]" in event.android.getprop or size is EventSize.SMALL


def test_machines_take_turns_and_count_their_events() -> None:
    told = [
        (machine_id, Event.model_validate_json(value).sequence)
        for machine_id, value in islice(load_events(2, EventSize.SMALL, start_time=NOW), 4)
    ]

    first, second = load_ids(2)
    assert told == [(first, 0), (second, 0), (first, 1), (second, 1)]


@pytest.mark.parametrize("size", list(EventSize))
def test_every_event_changes_the_row_and_none_sends_the_machine_to_recovery(size: EventSize) -> None:
    before = Description.new("load-0000000", now=NOW)
    for _, value in islice(load_events(1, size, start_time=NOW), 250):
        after = process(before, Event.model_validate_json(value), now=NOW).after
        assert after.battery != before.battery
        assert after.recovering == ""
        before = after


def test_small_events_lead_to_the_same_dimensions_as_real_ones() -> None:
    found = [
        process(
            Description.new(machine_id, now=NOW), Event.model_validate_json(value), now=NOW
        ).after.dimensions
        for size in EventSize
        for machine_id, value in islice(load_events(1, size, start_time=NOW), 1)
    ]

    assert found[0] == found[1]
