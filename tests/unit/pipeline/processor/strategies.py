"""Everything that may arrive, and much that should not, for hypothesis."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from pipeline.processor.android import PROPERTIES
from pipeline.processor.device_dimensions import DERIVED
from schemas.description import Annotation, AttachedDevice, Description, PowerCycleState
from schemas.event import Event
from schemas.wire import ZERO_TIME
from tests.unit.pipeline.processor.samples import BOOTED, MACHINE, battery_dump, sensor, thermal_dump

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
int64s = st.integers(-(2**63), 2**63 - 1)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2261, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
times = st.just(ZERO_TIME) | moments

_NAMES = st.sampled_from([*PROPERTIES, "ro.product.model", "ro.build.id.x", "", "]", "]: [x"])
_VALUES = st.sampled_from(
    ["", "QQ2A.200305.002", "sargo", "AOSP", "Google", "x_hwasan", "a]", "[b", "x]: [y", "ß", "\r", "\u2028"]
)
_LINES = st.one_of(
    st.builds("[{}]: [{}]".format, _NAMES, _VALUES),
    st.builds(
        "{}{}{}{}{}".format,
        st.sampled_from(["[", "", " [", "[["]),
        _NAMES,
        st.sampled_from(["]: [", "]:[", "]:\t[", "]:\v[", "]:\n[", "] [", "]:]: ["]),
        _VALUES,
        st.sampled_from(["]", "", "] x", "]\r", "]:", "]: [", "]: []"]),
    ),
    texts,
)
getprops = st.builds(str.join, st.sampled_from(["\n", "\r\n", "\n\n"]), st.lists(_LINES, max_size=12))

_NUMBERS = st.one_of(
    st.integers(-5, 120),
    st.integers(0, 2**70),
    st.sampled_from(["", "x", "007", "9" * 30, "9" * 5000, "1.5", "\t5"]),
)
battery_dumps = st.one_of(
    st.builds(lambda level, degrees: battery_dump(level, temperature=degrees), _NUMBERS, _NUMBERS),
    st.lists(
        st.sampled_from(
            ["level:", "scale:", "temperature:", " ", "\n", "\r\n", "0", "50", "level: 9", "scale: 0"]
        ),
        max_size=12,
    ).map("".join),
)

_DEGREES = st.sampled_from(["20.5", "35.0", "35.1", "44000", "-99.9", ".", "1.2.3", "9" * 400, "1000", ""])
_SENSOR_LINES = st.one_of(
    st.builds(sensor, _DEGREES, st.sampled_from(["cpu", "battery_cycle", "dumpsys_battery", "", "a b"])),
    st.sampled_from(["", "\t", "\tx", "Current temperatures from HAL:", "Current cooling devices from HAL:"]),
)
thermal_dumps = st.one_of(
    st.just(""),
    st.lists(_DEGREES, max_size=4).map(lambda values: thermal_dump(*values)),
    st.lists(_SENSOR_LINES, max_size=8).map("\n".join),
)

_LISTS = st.none() | st.lists(texts, max_size=3)
_DIMENSION_NAMES = st.sampled_from(
    [
        *sorted(frozenset[str]().union(*DERIVED.values())),
        "pool",
        "task_type",
        "quarantined",
        "tmm_version",
        "rack",
    ]
)
_OS = st.sampled_from([["Android"], ["ChromeOS"], ["iOS", "iOS-13"], ["Linux"], []])
dimension_maps = st.builds(
    lambda some, os: some if os is None else {**some, "os": os},
    st.dictionaries(_DIMENSION_NAMES, _LISTS, max_size=6),
    st.none() | _OS,
)

_PARTS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "android": st.fixed_dictionaries(
        {
            "getprop": getprops,
            "dumpsys_battery": battery_dumps,
            "dumpsys_thermal_service": thermal_dumps,
            "uptime": int64s | st.integers(1, 10**12),
        }
    ),
    "chromeos": st.fixed_dictionaries(
        {
            "channel": texts,
            "milestone": texts,
            "release_version": texts,
            "uptime": int64s | st.integers(1, 10**12),
        }
    ),
    "ios": st.fixed_dictionaries(
        {"version": texts, "device_type": texts, "battery": int64s | st.sampled_from([-99, 0, 29, 30, 100])}
    ),
    "pyocd": st.fixed_dictionaries({"device_type": texts}),
    "standalone": st.fixed_dictionaries(
        {
            "cores": int64s | st.integers(1, 64),
            "cpus": _LISTS,
            "gpus": _LISTS,
            "os_versions": _LISTS | _OS,
            "gce": st.booleans(),
            "machine_type": texts,
            "docker_installed": st.booleans(),
        }
    ),
}


def _events(sequences: st.SearchStrategy[int | None]) -> st.SearchStrategy[Event]:
    head = st.fixed_dictionaries(
        {
            "type": st.sampled_from(["raw_state"] * 9 + ["other"]),
            "host": st.fixed_dictionaries(
                {
                    "name": st.just(MACHINE),
                    "version": texts,
                    "start_time": st.sampled_from([ZERO_TIME, BOOTED]) | moments,
                }
            ),
            "running_swarming_task": st.booleans(),
            "launched_swarming": st.booleans(),
            "forced_quarantine": st.booleans(),
            "sequence": sequences,
        }
    )
    none = st.just(dict[str, Any]())
    one = st.one_of(*(st.fixed_dictionaries({name: part}) for name, part in _PARTS.items()))
    many = st.fixed_dictionaries({}, optional=_PARTS)
    return st.builds(
        lambda head, parts: Event.model_validate({**head, **parts}), head, st.one_of(one, one, none, many)
    )


events = _events(st.none() | st.integers(0, 5) | st.integers(0, 2**63 - 1))
unnumbered_events = _events(st.none())

_annotations = st.builds(
    lambda message, user, moment: Annotation(message=message, user=user, timestamp=moment),
    texts,
    texts,
    times,
)

descriptions = st.fixed_dictionaries(
    {
        "maintenance_mode": st.just("") | texts,
        "is_quarantined": st.booleans(),
        "recovering": st.just("") | st.sampled_from(["Too hot.", "Battery low."]) | texts,
        "attached_device": st.sampled_from([device.value for device in AttachedDevice]),
        "annotation": _annotations,
        "note": _annotations,
        "power_cycle": st.booleans(),
        "power_cycle_state": st.sampled_from([state.value for state in PowerCycleState]),
        "last_updated": times,
        "battery": int64s,
        "temperature": st.none() | st.dictionaries(texts, st.floats(-100, 1000), max_size=3),
        "recovery_start": times,
        "device_uptime_s": st.integers(0, 2**31 - 1),
        "ssh_user_ip": st.just("") | texts,
        "supplied_dimensions": st.none() | dimension_maps,
        "dimensions": st.none()
        | dimension_maps
        | dimension_maps.map(lambda dimensions: {**dimensions, "id": [MACHINE]}),
        "task_started": times,
        "device_kind": st.sampled_from(["", "android", "chromeos", "ios", "pyocd", "standalone"]),
        "down_since": times,
        "monitor_start": st.sampled_from([ZERO_TIME, BOOTED]),
        "monitor_sequence": st.integers(-1, 6),
    }
).map(Description.model_validate)
