from __future__ import annotations

import pytest

from producers.machine_monitor.probes.protocol import ProbeFailed
from producers.machine_monitor.probes.windows import controller_dimensions, parse_rows, windows_versions


@pytest.mark.parametrize(
    ("platform", "version", "expected"),
    [
        (
            "Microsoft Windows Server 2019 Datacenter",
            "10.0.17763 Build 17763",
            ["Windows", "Windows-Server", "Windows-Server-17763"],
        ),
        ("Microsoft Windows 10 Pro", "10.0.19045 Build 19045", ["Windows", "Windows-10", "Windows-10-19045"]),
    ],
)
def test_windows_is_told_in_all_precisions(platform: str, version: str, expected: list[str]) -> None:
    assert windows_versions(platform, version) == expected


@pytest.mark.parametrize(
    ("platform", "version"),
    [("Microsoft Windows 10 Pro", "10.0.19045"), ("Schlockosoft Grindows", "10.0.1 Build 1"), ("", "")],
)
def test_another_shape_is_an_error(platform: str, version: str) -> None:
    with pytest.raises(ProbeFailed, match="unknown Windows"):
        windows_versions(platform, version)


NVIDIA = {"PNPDeviceID": r"PCI\VEN_10DE&DEV_1CB3&SUBSYS_11BE10DE", "DriverVersion": "26.21.14.4120"}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([NVIDIA], ["10de", "10de:1cb3", "10de:1cb3-26.21.14.4120"]),
        ([NVIDIA | {"DriverVersion": None}], ["10de", "10de:1cb3"]),
        ([{"PNPDeviceID": "ROOT\\BASICDISPLAY"}], ["UNKNOWN", "UNKNOWN:UNKNOWN"]),
        ([NVIDIA, {"PNPDeviceID": r"PCI\VEN_15AD&DEV_0405"}], ["none"]),
        ([], ["none"]),
        (
            [{"PNPDeviceID": "VEN_FFFF&DEV_0001"}, {"PNPDeviceID": "VEN_0000&DEV_0002"}],
            ["ffff", "ffff:0001", "0000", "0000:0002"],
        ),
    ],
)
def test_video_controllers_are_told_by_ids_in_their_order(
    rows: list[dict[str, str]], expected: list[str]
) -> None:
    assert controller_dimensions(rows) == expected


def test_powershell_writes_one_row_without_a_list() -> None:
    assert parse_rows('{"Name": "x"}') == parse_rows('[{"Name": "x"}]') == [{"Name": "x"}]
    assert parse_rows("\r\n") == []


def test_what_is_not_json_is_an_error() -> None:
    with pytest.raises(ProbeFailed, match="not answer in JSON"):
        parse_rows("Get-CimInstance : Access denied")
