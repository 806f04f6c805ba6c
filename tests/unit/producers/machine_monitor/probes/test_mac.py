from __future__ import annotations

import plistlib
from typing import Any

import pytest

from producers.machine_monitor.probes.mac import parse_displays
from producers.machine_monitor.probes.protocol import ProbeFailed


def profile(*items: dict[str, Any]) -> str:
    return plistlib.dumps([{"_items": list(items)}]).decode()


def card(device: str = "0x3e9b", **facts: str) -> dict[str, Any]:
    names = {"vendor_id": "spdisplays_vendor-id", "vendor": "spdisplays_vendor", "model": "sppci_model"}
    names |= {"gmux": "spdisplays_gmux-version"}
    return {"spdisplays_device-id": device} | {names[key]: value for key, value in facts.items()}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (card(vendor_id="0x8086"), ["8086", "8086:3e9b"]),
        (card(vendor="Intel (0x8086)"), ["8086", "8086:3e9b"]),
        (card(vendor_id="0x1002", vendor="Intel (0x8086)"), ["1002", "1002:3e9b"]),
        (card(model="Intel Iris Pro"), ["8086", "8086:3e9b"]),
        (card(model="NVIDIA GeForce GT 650M"), ["10de", "10de:3e9b"]),
        (card(vendor="sppci_vendor_amd", model="Radeon Pro 555"), ["1002", "1002:3e9b"]),
        (card(vendor="sppci_vendor_Apple", model="Apple M1"), ["UNKNOWN", "UNKNOWN:3e9b"]),
        (card(), ["UNKNOWN", "UNKNOWN:3e9b"]),
        (
            card(vendor_id="0x8086", gmux="4.0.20 [3.2.8]"),
            ["8086", "8086:3e9b", "8086:3e9b-4.0.20-3.2.8"],
        ),
        (card(vendor_id="0x8086", gmux="newest"), ["8086", "8086:3e9b"]),
        (card(vendor_id="0x8086", model="Iris"), ["none"]),
        (card(device="", vendor_id="0x8086"), ["none"]),
        (card(vendor_id="0x15ad"), ["none"]),
    ],
)
def test_a_card_is_told_by_ids(item: dict[str, Any], expected: list[str]) -> None:
    assert parse_displays(profile(item)) == expected


def test_cards_are_sorted() -> None:
    both = profile(card("0x1", vendor_id="0x8086"), card("0x2", vendor_id="0x1002"))
    assert parse_displays(both) == ["1002", "1002:2", "8086", "8086:1"]


def test_in_a_virtual_machine_there_is_none() -> None:
    assert parse_displays(profile(card(vendor_id="0x8086"), card(vendor_id="0x15ad"))) == ["none"]


def test_no_items_mean_no_cards() -> None:
    assert parse_displays(profile()) == ["none"]


@pytest.mark.parametrize(
    "text",
    ["", "not a plist", "<plist><array/></plist>", plistlib.dumps([]).decode(), plistlib.dumps({}).decode()],
)
def test_what_is_no_profile_is_an_error(text: str) -> None:
    with pytest.raises(ProbeFailed, match="property list"):
        parse_displays(text)
