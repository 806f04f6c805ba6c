"""What becomes of a device's dimensions when another kind of device reports."""

from __future__ import annotations

import pytest

from pipeline.processor.device_dimensions import DERIVED
from schemas.event import Event
from tests.unit.pipeline.processor.samples import (
    CHROMEOS_EVENT,
    IOS_EVENT,
    MACHINE,
    MISSING_EVENT,
    PIXEL_3A,
    PYOCD_EVENT,
    STANDALONE_EVENT,
    VERSION,
    after,
    android_event,
    description,
    event,
)

ANDROID_EVENT = android_event(PIXEL_3A + "\n[ro.product.name]: [sargo_hwasan]")
DEVICES = {
    "android": ANDROID_EVENT,
    "chromeos": CHROMEOS_EVENT,
    "ios": IOS_EVENT,
    "pyocd": PYOCD_EVENT,
    "standalone": event(
        standalone={
            "cores": 8,
            "cpus": ["x86"],
            "gpus": ["none"],
            "os_versions": ["Linux"],
            "gce": True,
            "machine_type": "m",
            "docker_installed": True,
        }
    ),
}


@pytest.mark.parametrize(("kind", "reported"), DEVICES.items())
def test_the_list_of_derived_dimensions_is_complete(kind: str, reported: Event) -> None:
    result = after(description(dimensions={}), reported)
    assert result.dimensions is not None
    assert result.dimensions.keys() - {"id", "tmm_version"} == dict(DERIVED.items())[kind]  # type: ignore[index]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("new", DEVICES)
@pytest.mark.parametrize("old", DEVICES)
def test_dimensions_of_another_kind_of_device_are_replaced_as_a_set(old: str, new: str, known: bool) -> None:
    before = after(description(dimensions={"id": [MACHINE], "rack": ["4"]}), DEVICES[old])
    if not known:
        before = before.model_copy(update={"device_kind": ""})
    fresh = after(description(dimensions={"id": [MACHINE], "rack": ["4"]}), DEVICES[new])
    result = after(before, DEVICES[new])
    assert result.dimensions == fresh.dimensions
    assert result.device_kind == new


@pytest.mark.parametrize("old", DEVICES)
def test_a_missing_device_keeps_its_dimensions_and_its_kind(old: str) -> None:
    before = after(description(), DEVICES[old])
    result = after(before, MISSING_EVENT)
    assert result.dimensions is before.dimensions
    assert result.device_kind == old


def test_the_kind_before_is_remembered_across_a_missing_device() -> None:
    result = after(description(), ANDROID_EVENT, MISSING_EVENT, STANDALONE_EVENT)
    assert result.dimensions == after(description(), STANDALONE_EVENT).dimensions


def test_leftovers_of_other_kinds_go_even_when_the_kind_stays() -> None:
    leftovers = {"device_os": ["Q"], "cores": ["8"], "release_version": ["1"]}
    before = description(device_kind="ios", dimensions={**leftovers, "rack": ["4"]})
    assert after(before, IOS_EVENT).dimensions == {
        "rack": ["4"],
        "os": ["iOS", "iOS-13.3.1"],
        "device_type": ["iPhone10,1"],
        "tmm_version": [VERSION],
    }


def test_an_old_row_that_does_not_tell_its_kind_loses_only_what_others_report() -> None:
    before = description(dimensions={"id": [MACHINE], "device_os": ["Q"], "os": ["Debian"]})
    result = after(before, event(standalone={"cores": 4, "os_versions": ["Linux"]}))
    assert result.dimension("device_os") == []
    assert result.dimension("os") == ["Linux"]


@pytest.mark.parametrize(
    ("dimensions", "same_kind"),
    [
        ({"os": ["Android"], "device_os_type": ["user"]}, True),
        ({"os": ["Android"], "device_os_type": ["user"], "cores": ["4"]}, True),
        ({"os": ["iOS", "iOS-13"], "device_type": ["iPhone"], "device_os_type": ["user"]}, False),
        ({"os": ["ChromeOS"], "device_os_type": ["user"]}, False),
        ({"os": ["Linux"], "cores": ["4"], "device_os_type": ["user"]}, False),
        ({"device_type": ["Pico"], "device_os_type": ["user"]}, False),
        ({"device_os_type": ["user"]}, True),
        ({"os": None, "cores": [], "device_os_type": ["user"]}, True),
    ],
)
def test_the_kind_of_an_old_row_is_inferred_from_its_dimensions(
    dimensions: dict[str, list[str] | None], same_kind: bool
) -> None:
    result = after(description(dimensions=dimensions), android_event("[ro.build.id]: [q]"))
    assert result.dimension("device_os_type") == (["user"] if same_kind else [])


def test_supplied_dimensions_survive_a_change_to_chromeos() -> None:
    before = after(description(supplied_dimensions={"gpu": ["Mali"], "cpu": ["arm"]}), STANDALONE_EVENT)
    result = after(before, CHROMEOS_EVENT)
    assert result.dimension("gpu") == ["Mali"]
    assert result.dimension("cpu") == ["arm"]
    assert result.dimension("cores") == []


@pytest.mark.parametrize("kind", DEVICES)
def test_a_heartbeat_keeps_the_very_same_map(kind: str) -> None:
    before = after(description(supplied_dimensions={"gpu": ["Mali"]}), DEVICES[kind])
    assert after(before, DEVICES[kind]).dimensions is before.dimensions
