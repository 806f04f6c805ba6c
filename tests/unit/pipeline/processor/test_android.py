"""Reading `getprop`."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.processor import android
from pipeline.processor.android import PROPERTIES, dimensions_from_getprop, wanted_properties
from tests.unit.pipeline.processor.strategies import getprops

_SLOW_LINE = re.compile(r"^\[(.+)\]:[\t\n\f\r ]*\[(.*)\].*$")


def slowly_read(getprop: str) -> dict[str, str]:
    """The rule as it is written down: every line on its own, greedily, the last one of a key wins."""
    found = (_SLOW_LINE.match(line) for line in getprop.split("\n"))
    everything = {match[1]: match[2] for match in found if match is not None}
    return {name: value for name, value in everything.items() if name in PROPERTIES}


@settings(max_examples=250)
@given(getprops)
def test_the_fast_reader_agrees_with_the_rule_as_written(getprop: str) -> None:
    assert wanted_properties(getprop) == slowly_read(getprop)


@given(getprops)
def test_reading_a_text_again_gives_the_same(getprop: str) -> None:
    assert dimensions_from_getprop(getprop) == dimensions_from_getprop(getprop + "\n[unrelated]: [x]")


def test_what_is_remembered_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(android, "_REMEMBERED_LIMIT", 3)
    monkeypatch.setattr(android, "_remembered", {})
    for number in range(10):
        assert dimensions_from_getprop(f"[ro.build.type]: [type{number}]") == {
            "device_os_type": [f"type{number}"]
        }
        assert len(android._remembered) <= 3


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("[ro.build.id]: [QQ2A]", "QQ2A"),
        ("[ro.build.id]:[QQ2A]", "QQ2A"),
        ("[ro.build.id]: \t [QQ2A]", "QQ2A"),
        ("[ro.build.id]: [QQ2A]\r", "QQ2A"),
        ("[ro.build.id]: [QQ2A] and more", "QQ2A"),
        ("[ro.build.id]: []", ""),
        ("[ro.build.id]: [a]b]", "a]b"),
        ("[ro.build.id]: [[a]]", "[a]"),
        ("[ro.build.id]: [x]: [y", "x"),
    ],
)
def test_a_property_line_is_read(line: str, value: str) -> None:
    assert wanted_properties(line) == {"ro.build.id": value}
    assert wanted_properties(f"[a]: [b]\n{line}\n[c]: [d]\n") == {"ro.build.id": value}


@pytest.mark.parametrize(
    "line",
    [
        "ro.build.id]: [QQ2A]",
        " [ro.build.id]: [QQ2A]",
        "[ro.build.id] [QQ2A]",
        "[ro.build.id]: QQ2A",
        "[ro.build.id]: [QQ2A",
        "[ro.build.id]: x [QQ2A]",
        "[ro.build.id]:\n[QQ2A]",
        "[ro.build.id]:\v[QQ2A]",
        "[ro.build.idx]: [QQ2A]",
        "[ro_build_id]: [QQ2A]",
        "[ro.build.id]: [x]: [y]",
        "[]: [ro.build.id]: [y]",
        "",
    ],
)
def test_what_is_no_line_of_the_property_is_ignored(line: str) -> None:
    assert wanted_properties(line) == {}


def test_the_last_line_of_a_repeated_property_wins() -> None:
    text = "[ro.build.id]: [first]\n[x]: [y]\n[ro.build.id]: [second]\n[ro.build.id]: broken"
    assert wanted_properties(text)["ro.build.id"] == "second"


def test_a_property_may_be_emptied_by_a_later_line() -> None:
    assert dimensions_from_getprop("[ro.build.type]: [user]\n[ro.build.type]: []") == {}


def test_a_typical_phone() -> None:
    text = """
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 3a]
[ro.build.id]: [QQ2A.200305.002]
[ro.product.brand]: [google]
[ro.build.type]: [user]
[ro.product.board]: []
[ro.product.device]: [4560MMX_sprout]
[ro.build.product]: [sargo]
[ro.product.system.brand]: [google]
[ro.product.system.brand]: [aosp]
"""
    assert dimensions_from_getprop(text) == {
        "android_devices": ["1"],
        "device_os": ["Q", "QQ2A.200305.002"],
        "device_os_flavor": ["google", "android"],
        "device_os_type": ["user"],
        "device_type": ["4560MMX_sprout", "sargo"],
        "os": ["Android"],
    }


def test_nothing_from_nothing() -> None:
    assert dimensions_from_getprop("") == {}


def test_device_type_is_read_from_three_properties_in_order_without_repeats() -> None:
    text = "[ro.product.board]: [b]\n[ro.build.product]: [a]\n[ro.product.device]: [c]"
    assert dimensions_from_getprop(text) == {"device_type": ["c", "a", "b"]}
    assert dimensions_from_getprop(text.replace("[b]", "[c]")) == {"device_type": ["c", "a"]}


def test_the_incremental_version_is_appended_to_the_build_id() -> None:
    text = "[ro.build.id]: [QQ2A.200305.002]\n[ro.build.version.incremental]: [6254899]"
    assert dimensions_from_getprop(text) == {
        "android_devices": ["1"],
        "device_os": ["Q", "QQ2A.200305.002", "QQ2A.200305.002_6254899"],
        "os": ["Android"],
    }


def test_an_incremental_version_without_a_build_id_adds_nothing() -> None:
    assert dimensions_from_getprop("[ro.build.version.incremental]: [6254899]") == {}


@pytest.mark.parametrize(
    ("build", "device_os"),
    [
        ("QQ2A", ["Q", "QQ2A"]),
        ("10.2", ["1", "10.2"]),
        ("qq2a", ["qq2a"]),
        ("Q", ["Q"]),
        ("_x", ["_", "_x"]),
    ],
)
def test_the_first_character_of_a_build_is_added_unless_it_is_lower_case(
    build: str, device_os: list[str]
) -> None:
    assert dimensions_from_getprop(f"[ro.build.id]: [{build}]")["device_os"] == device_os


def test_builds_are_sorted_by_byte_order() -> None:
    text = "[ro.build.id]: [abc]\n[ro.build.version.incremental]: [Z]"
    assert dimensions_from_getprop(text)["device_os"] == ["abc", "abc_Z"]
    text = "[ro.build.id]: [Z]\n[ro.build.version.incremental]: [1]"
    assert dimensions_from_getprop(text)["device_os"] == ["Z", "Z_1"]


@pytest.mark.parametrize(
    ("brands", "flavors"),
    [
        (("Google", "AOSP"), ["google", "android"]),
        (("Android", "AOSP"), ["android", "android"]),
        (("aosp", "aosp"), ["android"]),
        (("samsung", ""), ["samsung"]),
    ],
)
def test_flavors_are_lower_case_and_aosp_is_called_android(
    brands: tuple[str, str], flavors: list[str]
) -> None:
    text = f"[ro.product.brand]: [{brands[0]}]\n[ro.product.system.brand]: [{brands[1]}]"
    assert dimensions_from_getprop(text) == {"device_os_flavor": flavors}


def test_flavors_keep_their_order() -> None:
    text = "[ro.product.brand]: [zebra]\n[ro.product.system.brand]: [ant]"
    assert dimensions_from_getprop(text) == {"device_os_flavor": ["zebra", "ant"]}


@pytest.mark.parametrize(
    ("product", "expected"),
    [("aosp_sargo_hwasan", {"android_hwasan_build": ["1"]}), ("aosp_hwasan_sargo", {}), ("hwasan", {})],
)
def test_a_hwasan_build_is_told_by_its_product_name(product: str, expected: dict[str, list[str]]) -> None:
    assert dimensions_from_getprop(f"[ro.product.name]: [{product}]") == expected


@given(st.sampled_from(PROPERTIES), st.text(alphabet="[]: x", max_size=30))
def test_brackets_in_a_value_never_break_the_reader(name: str, value: str) -> None:
    text = f"[{name}]: [{value}]"
    assert wanted_properties(text) == slowly_read(text)


@pytest.mark.parametrize(
    "piece", ["[ro.build.id]: x\n", "]: [", "]:", "[", "\n[ro.", "]:" + " " * 1000, "[ro.build.id]: [x]\n"]
)
def test_a_megabyte_of_anything_is_read_in_linear_time(piece: str) -> None:
    text = "[ro.build.id]: [y]" + piece * (1_000_000 // len(piece))
    assert wanted_properties(text + "\n[ro.build.id]: [last]") == {"ro.build.id": "last"}
