"""Events: what Go programs send is read as Go would read it, and written as Go would write it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.event import Event
from schemas.wire import ZERO_TIME, explain

GO_EVENT = (
    '{"type":"raw_state","android":{"getprop":"","dumpsys_battery":"","dumpsys_thermal_service":"","uptime":0},'
    '"chromeos":{"channel":"","milestone":"","release_version":"","uptime":0},'
    '"ios":{"version":"","device_type":"","battery":0},"pyocd":{"device_type":""},'
    '"standalone":{"cores":4,"cpus":["x86"],"gpus":null,"os_versions":[],"gce":false,"machine_type":"",'
    '"docker_installed":true},'
    '"host":{"name":"rack4-07","version":"v1","start_time":"2026-01-02T03:04:05.12Z"},'
    '"running_swarming_task":false,"forced_quarantine":false,"launched_swarming":true}'
)


def refusal(document: str | bytes) -> str:
    with pytest.raises(ValidationError) as caught:
        Event.model_validate_json(document)
    return explain(caught.value)


def test_what_go_writes_comes_back_byte_for_byte() -> None:
    assert Event.model_validate_json(GO_EVENT).model_dump_json() == GO_EVENT


def test_a_sequence_is_written_only_when_there_is_one() -> None:
    event = Event.model_validate_json('{"sequence": 7}')

    assert event.sequence == 7
    assert event.model_dump_json().endswith('"launched_swarming":false,"sequence":7}')


def test_a_part_missing_altogether_has_zero_values() -> None:
    event = Event.model_validate_json("{}")

    assert (event.type, event.host.name, event.host.start_time) == ("", "", ZERO_TIME)
    assert event.standalone.cpus is None
    assert event.device_kind is None


def test_null_leaves_the_zero_value_anywhere() -> None:
    event = Event.model_validate_json(
        '{"android": null, "ios": {"battery": null, "version": null}, "host": {"start_time": null, "name": null}}'
    )

    assert event == Event()


def test_keys_match_in_any_case_and_the_exact_spelling_wins() -> None:
    event = Event.model_validate_json(
        '{"TYPE": "x", "type": "raw_state", "Host": {"NAME": "m1"}, "IOS": {"Battery": 5}}'
    )

    assert (event.type, event.host.name, event.ios.battery) == ("raw_state", "m1", 5)


def test_unknown_keys_are_ignored_and_not_kept() -> None:
    event = Event.model_validate_json(
        '{"type": "raw_state", "rack": 4, "host": {"name": "m1", "shelf": {"a": [1]}}}'
    )

    assert json.loads(event.model_dump_json()).keys() == json.loads(GO_EVENT).keys()
    assert not event.host.model_extra


def test_a_parsed_document_is_read_like_its_text() -> None:
    document = {
        "Type": "raw_state",
        "host": {"name": "m1", "start_time": "2026-01-02T03:04:05Z"},
        "android": None,
    }

    assert Event.model_validate(document) == Event.model_validate_json(json.dumps(document))


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        pytest.param("{nope", "body: Invalid JSON", id="malformed"),
        pytest.param("[]", "body: ", id="not-an-object"),
        pytest.param('{"host": 5}', "host: ", id="wrong-type-of-a-part"),
        pytest.param('{"android": {"uptime": "5"}}', "android.uptime: ", id="number-in-quotes"),
        pytest.param('{"android": {"uptime": 1.5}}', "android.uptime: ", id="fraction"),
        pytest.param('{"android": {"uptime": 9223372036854775808}}', "android.uptime: ", id="beyond-64-bits"),
        pytest.param('{"running_swarming_task": "yes"}', "running_swarming_task: ", id="not-a-bool"),
        pytest.param('{"ios": {"battery": NaN}}', "ios.battery: ", id="nan"),
        pytest.param('{"standalone": {"cpus": [1]}}', "standalone.cpus.0: ", id="wrong-type-in-a-list"),
        pytest.param('{"Standalone": {"CPUS": [1]}}', "standalone.cpus.0: ", id="wrong-type-in-another-case"),
        pytest.param('{"host": {"name": "../x"}}', "host.name: a machine id has", id="path-as-id"),
        pytest.param('{"host": {"name": "a\\"b"}}', "host.name: a machine id has", id="quote-in-id"),
        pytest.param(
            '{"host": {"name": "%s"}}' % ("a" * 10_000), "host.name: a machine id has", id="10-KB-id"
        ),
        pytest.param(
            '{"host": {"name": "a\\u0000"}}', "host.name: text must not contain NUL", id="nul-in-id"
        ),
        pytest.param('{"host": {"version": "\\u0000"}}', "host.version: text must not contain NUL", id="nul"),
        pytest.param(
            '{"host": {"version": "\\ud800"}}', "host.version: text must not contain lone", id="surrogate"
        ),
        pytest.param(
            '{"standalone": {"gpus": ["\\udfff"]}}', "standalone.gpus.0: text must not", id="surrogate-deep"
        ),
        pytest.param('{"host": {"start_time": "0000-01-01T00:00:00Z"}}', "host.start_time: ", id="year-0"),
        pytest.param('{"host": {"start_time": "9999-12-31T23:59:59Z"}}', "host.start_time: ", id="year-9999"),
        pytest.param(
            '{"host": {"start_time": "9999-12-31T23:59:59-12:00"}}', "host.start_time: ", id="year-10000-utc"
        ),
        pytest.param('{"host": {"start_time": "2026-01-01T00:00:00"}}', "host.start_time: ", id="no-zone"),
        pytest.param('{"host": {"start_time": 1700000000}}', "host.start_time: ", id="unix-time"),
        pytest.param('{"sequence": -1}', "sequence: ", id="negative-sequence"),
        pytest.param("[" * 100_000, "body: ", id="deep-nesting"),
        pytest.param(b'{"type": "\xff"}', "body: ", id="not-utf-8"),
    ],
)
def test_bad_input_is_refused_with_the_field_named(document: str | bytes, reason: str) -> None:
    assert refusal(document).startswith(reason)


def test_a_refusal_does_not_repeat_the_input() -> None:
    assert "s3cret" not in refusal('{"android": {"uptime": "s3cret"}}')


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T05:04:05+02:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.123456789Z", datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", ZERO_TIME),
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_are_rfc_3339(text: str, moment: datetime) -> None:
    assert Event.model_validate_json(f'{{"host": {{"start_time": "{text}"}}}}').host.start_time == moment


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"android": {"uptime": 10}}, "android"),
        ({"android": {"uptime": 0, "getprop": "[a]: [b]"}}, None),
        ({"android": {"uptime": -1}}, None),
        ({"chromeos": {"uptime": 1}}, "chromeos"),
        ({"ios": {"device_type": "iPhone10,1"}}, "ios"),
        ({"ios": {"version": "13.3.1"}}, None),
        ({"pyocd": {"device_type": "nrf52"}}, "pyocd"),
        ({"standalone": {"cores": 1}}, "standalone"),
        ({"standalone": {"cores": 1}, "android": {"uptime": 1}}, "android"),
    ],
)
def test_the_first_part_that_counts_as_present_is_the_device(event: dict[str, Any], kind: str | None) -> None:
    assert Event.model_validate(event).device_kind == kind


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "HOST", "host", "name", "android", "uptime", "start_time", "cpus", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_json)
def test_any_json_is_either_an_event_or_a_validation_error(document: Any) -> None:
    try:
        event = Event.model_validate_json(json.dumps(document))
    except ValidationError:
        return
    assert Event.model_validate_json(event.model_dump_json()) == event
