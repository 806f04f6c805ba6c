"""What holds for every event and every Description."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.processor.normalize import normalize
from pipeline.processor.pools import Pools
from pipeline.processor.process import process
from pipeline.processor.transition import differences
from schemas.description import Description
from schemas.event import Event
from schemas.wire import Dimensions
from tests.unit.pipeline.processor.samples import MACHINE, NOW
from tests.unit.pipeline.processor.strategies import descriptions, events, moments, unnumbered_events

pytestmark = pytest.mark.slow

POOLS = Pools([("SkiaInternal", "^skia-i-"), ("Skia", "^skia-")])


def normal(description: Description) -> Description:
    return normalize(description, POOLS, MACHINE)


def reversed_keys(dimensions: Dimensions | None) -> Dimensions | None:
    return None if dimensions is None else dict(reversed(dimensions.items()))


def with_reversed_keys(description: Description) -> Description:
    return description.model_copy(
        update={
            "dimensions": reversed_keys(description.dimensions),
            "supplied_dimensions": reversed_keys(description.supplied_dimensions),
        }
    )


@settings(max_examples=150)
@given(descriptions, events, moments)
def test_the_outcome_of_any_event_can_be_written_and_read_back(
    before: Description, event: Event, now: datetime
) -> None:
    after = process(before, event, now=now).after
    for outcome in (after, normal(after)):
        assert not outcome.model_extra
        assert Description.model_validate_json(outcome.model_dump_json()) == outcome


@given(descriptions, events)
def test_nothing_that_is_handed_in_is_changed(before: Description, event: Event) -> None:
    written_before, written_event = before.model_dump_json(), event.model_dump_json()
    after = process(before, event, now=NOW).after
    written_after = after.model_dump_json()
    differences(before, normal(after))
    process(after, event, now=NOW)
    assert before.model_dump_json() == written_before
    assert event.model_dump_json() == written_event
    assert after.model_dump_json() == written_after


@given(descriptions, unnumbered_events)
def test_applying_an_event_twice_changes_only_times(before: Description, event: Event) -> None:
    once = process(before, event, now=NOW).after
    twice = process(once, event, now=NOW + timedelta(minutes=1)).after
    assert twice.model_copy(update={"last_updated": once.last_updated}) == once
    assert twice.dimensions is once.dimensions
    assert twice.annotation is once.annotation
    assert differences(once, twice) == ()


@given(descriptions, events)
def test_a_numbered_event_is_applied_once(before: Description, event: Event) -> None:
    once = process(before, event, now=NOW)
    again = process(once.after, event, now=NOW)
    runs_ahead = event.host.start_time - NOW > timedelta(
        hours=1
    )  # a wrong clock: its numbers are not looked at
    if event.sequence is None or once.unknown_type or runs_ahead:
        assert not again.replayed
    else:
        assert again.replayed
        assert again.after is once.after


@given(descriptions, events)
def test_the_order_of_keys_never_matters(before: Description, event: Event) -> None:
    forward = process(before, event, now=NOW).after
    backward = process(with_reversed_keys(before), event, now=NOW).after
    assert forward == backward
    assert normal(forward).model_dump_json() == normal(backward).model_dump_json()
    assert differences(before, forward) == differences(before, backward)


@given(descriptions, events)
def test_maps_that_come_out_equal_are_the_same_objects(before: Description, event: Event) -> None:
    after = process(before, event, now=NOW).after
    assert after.note is before.note
    assert (after.dimensions is before.dimensions) == (after.dimensions == before.dimensions)
    assert (after.annotation is before.annotation) or (after.annotation != before.annotation)
    assert after.supplied_dimensions is before.supplied_dimensions or before.supplied_dimensions is None


@given(descriptions)
def test_normalizing_twice_does_nothing_more(description: Description) -> None:
    once = normal(description)
    assert normal(once) is once


@given(descriptions.map(normal), st.lists(events, max_size=4))
def test_normalizing_at_the_end_equals_normalizing_after_each_event(
    before: Description, batch: list[Event]
) -> None:
    folded = stepwise = before
    for event in batch:
        folded = process(folded, event, now=NOW).after
        stepwise = normal(process(stepwise, event, now=NOW).after)
    assert normal(folded) == stepwise


@given(descriptions.map(normal), events)
def test_an_event_leaves_alone_what_belongs_to_people(before: Description, event: Event) -> None:
    after = process(before, event, now=NOW).after
    for name in (
        "maintenance_mode",
        "attached_device",
        "note",
        "power_cycle",
        "power_cycle_state",
        "ssh_user_ip",
        "supplied_dimensions",
        "task_request",
        "task_started",
        "row_version",
    ):
        assert getattr(after, name) == getattr(before, name)
    assert after.is_quarantined >= before.is_quarantined


@given(descriptions, events, st.booleans())
def test_the_short_way_from_a_normal_description_leads_to_the_same(
    before: Description, event: Event, reconfigured: bool
) -> None:
    start = normal(before)
    after = process(start, event, now=NOW).after
    pools = Pools([("New", "")]) if reconfigured else POOLS
    assert normalize(after, pools, MACHINE, normal=start) == normalize(after, pools, MACHINE)
