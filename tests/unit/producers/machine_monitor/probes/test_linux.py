from __future__ import annotations

import pytest

from producers.machine_monitor.probes.cpus import Cpu
from producers.machine_monitor.probes.linux import (
    Gpu,
    distribution_versions,
    gpu_dimensions,
    parse_cpuinfo,
    parse_dpkg_version,
    parse_lspci,
    parse_os_release,
)
from producers.machine_monitor.probes.protocol import ProbeFailed
from producers.machine_monitor.probes.versions import in_all_precisions


@pytest.mark.parametrize(
    ("prefix", "version", "expected"),
    [
        ("Mac", "12.4.35", ["Mac", "Mac-12", "Mac-12.4", "Mac-12.4.35"]),
        ("Win", "", ["Win"]),
        ("Ubuntu", "22", ["Ubuntu", "Ubuntu-22"]),
    ],
)
def test_a_version_is_told_in_all_precisions(prefix: str, version: str, expected: list[str]) -> None:
    assert in_all_precisions(prefix, version) == expected


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("greeb", "4.3", ["Linux", "Greeb", "Greeb-4", "Greeb-4.3"]),
        ("", "4.3", ["Linux"]),
        ("arch", "", ["Linux", "Arch"]),
    ],
)
def test_a_distribution_is_told_in_all_precisions(name: str, version: str, expected: list[str]) -> None:
    assert distribution_versions(name, version) == expected


def test_os_release_is_read_as_a_shell_would() -> None:
    text = 'ID=debian\nVERSION_ID="12"\n# a comment\nNAME=\'Debian GNU/Linux\'\nBROKEN="x\nEMPTY=\nnonsense\n'
    assert parse_os_release(text) == {"ID": "debian", "VERSION_ID": "12", "NAME": "Debian GNU/Linux"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            (
                "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Core(TM) i5\nflags\t\t:\n\n"
                "processor\t: 1\nvendor_id\t: Other\n"
            ),
            Cpu("GenuineIntel", "Intel(R) Core(TM) i5"),
        ),
        (
            "system type\t: MediaTek MT7621\nisa\t\t\t: mips1 mips2 mips32r1\ncpu model\t\t: MIPS 1004Kc V2.15\n",
            Cpu("", "MIPS 1004Kc V2.15"),
        ),
        (
            (
                "processor\t: 0\nmodel name\t: ARMv7 Processor rev 4 (v7l)\n"
                "Hardware\t: BCM2835 (Flattened Device Tree)\n"
            ),
            Cpu("ARMv7 Processor rev 4 (v7l)", "BCM2835"),
        ),
        (
            "Processor\t: AArch64 Processor rev 2\nHardware\t: Qualcomm SDM845\n",
            Cpu("AArch64 Processor rev 2", "Qualcomm SDM845"),
        ),
        ("processor\t: 0\nBogoMIPS\t: 48.00\n\nHardware\t: elsewhere\n", Cpu("N/A", "")),
        ("", Cpu("N/A", "")),
    ],
)
def test_the_first_processor_is_read(text: str, expected: Cpu) -> None:
    assert parse_cpuinfo(text) == expected


LSPCI = (
    '00:00.0 "Host bridge [0600]" "Intel Corporation [8086]" "Device [5914]" -r08 "Dell [1028]" "Device [07be]"\n'
    '00:02.0 "VGA compatible controller [0300]" "Intel Corporation [8086]" "UHD Graphics 620 [5917]" -r07 "" ""\n'
    '01:00.0 "3D controller [0302]" "NVIDIA Corporation [10de]" "GP107GL [Quadro P400] [1cb3]" -ra1 "" ""\n'
    "short row\n"
    "\n"
)


def test_graphics_cards_are_found_among_pci_devices() -> None:
    assert parse_lspci(LSPCI) == [Gpu("8086", "5917"), Gpu("10de", "1cb3")]


@pytest.mark.parametrize(
    "row",
    [
        '00:02.0 "VGA [0300]" "Intel [8086]" "no id"',
        '00:02.0 "VGA[0300]" "Intel [8086]" "UHD [5917]"',
        '00:02.0 "VGA [0300]" "Intel [8086] trailing" "UHD [5917]"',
        '00:02.0 "VGA [03zz]" "Intel [8086]" "UHD [5917]"',
    ],
)
def test_a_row_without_ids_is_no_graphics_card(row: str) -> None:
    assert parse_lspci(row) == []


def test_unbalanced_quotes_are_an_error() -> None:
    with pytest.raises(ProbeFailed, match="cannot be split"):
        parse_lspci('00:02.0 "VGA compatible controller [0300]" "Intel')


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Package: libgl1-mesa-dri\nStatus: ok\nVersion: 22.3.6-1+deb12u1\n", "22.3.6"),
        ("Version: 1:20.0.8\n", ""),
        ("Version: 20.0\n", ""),
        ("Old-Version: 20.0.8\n", ""),
        ("", ""),
    ],
)
def test_mesa_has_a_version_of_three_numbers(text: str, version: str) -> None:
    assert parse_dpkg_version(text) == version


def test_a_driver_version_is_told_when_known() -> None:
    assert gpu_dimensions("10de", "1cb3", "440.26") == ["10de", "10de:1cb3", "10de:1cb3-440.26"]
    assert gpu_dimensions("10de", "1cb3", "") == ["10de", "10de:1cb3"]
