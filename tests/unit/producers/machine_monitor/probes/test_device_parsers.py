from __future__ import annotations

from pathlib import Path

import pytest

from producers.machine_monitor.probes.adb import parse_uptime_s
from producers.machine_monitor.probes.chromeos import (
    Release,
    address_file_content,
    parse_release,
    parse_uptime_ns,
)
from producers.machine_monitor.probes.ios import parse_battery
from producers.machine_monitor.probes.protocol import ProbeFailed
from producers.machine_monitor.probes.pyocd import count_boards, read_device_type
from producers.machine_monitor.probes.ssh import parse_address


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("135.7 523.8", 135), ("135.7 523.8\n", 135), ("0.9 1", 0), ("99 1", 99)],
)
def test_android_uptime_is_whole_seconds(text: str, seconds: int) -> None:
    assert parse_uptime_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "135.7", "135.7  523.8", "135.7 523.8 1", "a b", "-1 2", "nan 1", "1e9 1", "9999999999 1"]
)
def test_other_android_uptimes_are_errors(text: str) -> None:
    with pytest.raises(ProbeFailed, match="two numbers"):
        parse_uptime_s(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("1234.5 5678.9", 1_234_500_000_000), ("7", 7_000_000_000), ("0.000000001 1", 1)],
)
def test_chromeos_uptime_keeps_fractions(text: str, nanoseconds: int) -> None:
    assert parse_uptime_ns(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "up 3 days", "inf 1", "-3 1"])
def test_other_chromeos_uptimes_are_errors(text: str) -> None:
    with pytest.raises(ProbeFailed, match="begin with a number"):
        parse_uptime_ns(text)


LSB_RELEASE = """CHROMEOS_ARC_ANDROID_SDK_VERSION=28
CHROMEOS_RELEASE_BUILDER_PATH=sarien-release/R89-13729.56.0
CHROMEOS_RELEASE_CHROME_MILESTONE=89
CHROMEOS_RELEASE_TRACK=stable-channel
CHROMEOS_RELEASE_VERSION=13729.56.0
"""


def test_release_facts_are_found() -> None:
    assert parse_release(LSB_RELEASE) == Release("13729.56.0", "89", "stable-channel")


def test_one_release_fact_is_enough() -> None:
    assert parse_release("CHROMEOS_RELEASE_TRACK=dev-channel\n") == Release(channel="dev-channel")


@pytest.mark.parametrize("text", ["", "DISTRIB_ID=Ubuntu\n", "CHROMEOS_RELEASE_TRACK=\n"])
def test_a_host_without_release_facts_is_no_chromeos_device(text: str) -> None:
    with pytest.raises(ProbeFailed, match="no ChromeOS device"):
        parse_release(text)


def test_tasks_find_the_address_in_this_form() -> None:
    assert address_file_content("root@skia-foobar-01").decode() == (
        "{\n"
        '  "Comment": "This file is written to by test_machine_monitor. Do not edit by hand.",\n'
        '  "user_ip": "root@skia-foobar-01"\n'
        "}\n"
    )


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("chrome-bot@1.2.3.4", ("chrome-bot", "1.2.3.4")),
        ("1.2.3.4", ("", "1.2.3.4")),
        ("user_with_underscore@1.2.3.4", ("user_with_underscore", "1.2.3.4")),
        ("skia-sparky360-03", ("", "skia-sparky360-03")),
    ],
)
def test_an_ssh_address_is_host_or_user_at_host(address: str, expected: tuple[str, str]) -> None:
    assert parse_address(address) == expected


@pytest.mark.parametrize(
    "address",
    ["-oSomeOption=value", " -oSomeOption=value", "; ls", "chrome-bot@1.2.3.4;ls", "", "host\n", "host:22"],
)
def test_nothing_else_is_an_ssh_address(address: str) -> None:
    with pytest.raises(ProbeFailed, match="no SSH address"):
        parse_address(address)


@pytest.mark.parametrize(
    ("text", "percent"), [("33", 33), ("100", 100), ("-5", -5), ("", -99), ("33.5", -99), ("ERROR: x", -99)]
)
def test_a_battery_that_is_no_integer_is_unknown(text: str, percent: int) -> None:
    assert parse_battery(text) == percent


def test_the_board_is_named_in_json5(tmp_path: Path) -> None:
    config = tmp_path / "pyocd_config.json"
    config.write_text("// the board on the desk\n{device_type: 'nrf52840dk',}\n")
    assert read_device_type(config) == "nrf52840dk"


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", "{device_type: ''}", "{device_type: 3}"])
def test_without_a_board_in_the_file_there_is_none(tmp_path: Path, content: str | None) -> None:
    config = tmp_path / "pyocd_config.json"
    if content is not None:
        config.write_text(content)
    with pytest.raises(ProbeFailed, match="pyocd_config"):
        read_device_type(config)


def test_debug_probes_are_counted() -> None:
    assert count_boards('{"status": 0, "boards": [{"unique_id": "0240000034544e45"}]}') == 1
    assert count_boards('{"status": 0, "boards": []}') == 0


@pytest.mark.parametrize(
    "listing", ["", "[]", '{"status": 1, "error": "No USB", "boards": []}', '{"status": 0}']
)
def test_a_failed_listing_is_an_error(listing: str) -> None:
    with pytest.raises(ProbeFailed, match="pyocd"):
        count_boards(listing)
