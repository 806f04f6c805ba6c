from __future__ import annotations

import pytest

from producers.machine_monitor.probes.cpus import Cpu, cpu_dimensions, model_of, on_gce
from producers.machine_monitor.probes.protocol import ProbeFailed

INTEL = "GenuineIntel"


@pytest.mark.parametrize(
    ("architecture", "cpu", "expected"),
    [
        (
            "x86_64",
            Cpu(INTEL, "Intel(R) Core(TM) i7-9750H v2 CPU @ 2.60GHz"),
            ["x86", "x86-64", "x86-64-i7-9750H_v2"],
        ),
        (
            "x86_64",
            on_gce(Cpu(INTEL, "whatever"), "Intel Haswell"),
            ["x86", "x86-64", "x86-64-Haswell_GCE"],
        ),
        ("amd64", on_gce(Cpu(), "Intel Ivy Bridge"), ["x86", "x86-64", "x86-64-Ivy_Bridge_GCE"]),
        ("x86_64", on_gce(Cpu(INTEL, "x"), "AMD Rome"), ["x86", "x86-64", "x86-64-AMD_Rome_GCE"]),
        (
            "AMD64",
            Cpu("AuthenticAMD", "AMD Ryzen 5 4500U with Radeon Graphics"),
            ["x86", "x86-64", "x86-64-AMD_Ryzen_5_4500U_with_Radeon_Graphics"],
        ),
        ("arm64", Cpu("", "Apple M1"), ["arm64", "arm64-64", "arm64-64-Apple_M1"]),
        ("aarch64", Cpu("N/A", ""), ["arm64", "arm64-64"]),
        ("x86_64", Cpu(INTEL, "Intel(R) Xeon(R) Processor @ 2.80GHz"), ["x86", "x86-64"]),
    ],
)
def test_a_processor_is_told_in_all_precisions(architecture: str, cpu: Cpu, expected: list[str]) -> None:
    assert cpu_dimensions(architecture, cpu) == expected


@pytest.mark.parametrize(
    ("brand", "model"),
    [
        ("Intel(R) Core(TM) i7-9750H v2 CPU @ 2.60GHz", "i7-9750H v2"),
        ("Intel(R) Core(TM) i5-5350U CPU @ 1.80GHz", "i5-5350U"),
        ("11th Gen Intel(R) Core(TM) i5-1135G7 @ 2.40GHz", "i5-1135G7"),
        ("Intel(R) Pentium(R) CPU N3700 @ 1.60GHz", "N3700"),
        ("Intel(R) Xeon(R) CPU Haswell GCE", "Haswell GCE"),
        ("Intel(R) Xeon(R) CPU E5-2699 v4 @ 2.20GHz", "E5-2699 v4"),
        ("13th Gen Intel(R) Core(TM) i7-13700K @ 3.40GHz", "i7-13700K"),
        ("13th Gen Intel(R) Core(TM) i7-13700K", "i7-13700K"),
        ("Intel(R) Core(TM) i5-5350U", "i5-5350U"),
        ("11th Gen Intel(R) Core(TM) i5-1135G7", "i5-1135G7"),
        ("Intel(R) Pentium(R) CPU N3700", "N3700"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", ""),
        ("Intel(R) Core(TM) i7-123456 CPU", ""),
        ("", ""),
    ],
)
def test_intel_models_are_found_in_the_brand(brand: str, model: str) -> None:
    assert model_of(Cpu(INTEL, brand)) == model


@pytest.mark.parametrize("architecture", ["armv7l", "armv6l", "armv8l", "armhf", "arm"])
def test_32_bit_arm_is_arm(architecture: str) -> None:
    assert cpu_dimensions(architecture, Cpu(), process_bits=32) == ["arm", "arm-32"]


def test_without_a_width_in_the_name_the_process_decides() -> None:
    assert cpu_dimensions("i686", Cpu(), process_bits=32) == ["x86", "x86-32"]
    assert cpu_dimensions("i386", Cpu(), process_bits=64) == ["x86", "x86-64"]


@pytest.mark.parametrize("architecture", ["riscv64", "sparc", "", "armada"])
def test_an_unknown_architecture_is_an_error(architecture: str) -> None:
    with pytest.raises(ProbeFailed, match="unknown processor architecture"):
        cpu_dimensions(architecture, Cpu())


def test_an_unknown_platform_of_gce_leaves_the_processor_as_it_is() -> None:
    cpu = Cpu(INTEL, "Intel(R) Xeon(R) CPU @ 2.20GHz")
    assert on_gce(cpu, "Ampere Altra") is cpu
    assert on_gce(cpu, "") is cpu
