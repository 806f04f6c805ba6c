"""From what a system says about its processor to `x86`, `x86-64`, `x86-64-i7-9750H_v2`: the same on all systems.

Differences from the original, on purpose: Intel models may have five digits (`i7-13700K`) and may end the brand string;
32-bit ARM is `arm`, `arm-32`; where the architecture's name does not end in 64, the width is that of the running
process, which the original meant to say but could not.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from producers.machine_monitor.probes.protocol import ProbeFailed

_INSTRUCTION_SETS: Final = {
    "x86_64": "x86",
    "amd64": "x86",
    "i386": "x86",
    "i686": "x86",
    "aarch64": "arm64",
    "arm64": "arm64",
}
_ARM_32 = re.compile(r"arm(v[4-8]\w*|hf|el)?")
_INTEL: Final = "GenuineIntel"
_AMD: Final = "AuthenticAMD"

_INTEL_MODELS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r" ([A-Za-z]\d-\d{4,5}[A-Z]{0,2} [vV]\d)(?: |$)",  # i7-9750H v2
        r" ([A-Za-z]\d-\d{4,5}[A-Z]{0,2})(?: |$)",  # i5-5350U, i7-13700K
        r" ([A-Za-z]\d-\d{4,5}[A-Z]\d)(?: |$)",  # i5-1135G7
        r" ([A-Z]\d{4,5}[A-Z]{0,2})(?: |$)",  # N3700
        r" ((?:[A-Z][a-z]+ )+GCE)",  # Ivy Bridge GCE
    )
)


@dataclass(frozen=True, slots=True)
class Cpu:
    """A processor as its system names it; empty where it does not say."""

    vendor: str = ""
    brand: str = ""


def cpu_dimensions(architecture: str, cpu: Cpu, *, process_bits: int = struct.calcsize("P") * 8) -> list[str]:
    """Instruction set, with width, with model if known. Raises `ProbeFailed` for an architecture nobody knows."""
    instruction_set = _instruction_set(architecture)
    width = 64 if architecture.lower().endswith("64") else process_bits
    found = [instruction_set, f"{instruction_set}-{width}"]
    if model := model_of(cpu):
        found.append(f"{instruction_set}-{width}-{model}".replace(" ", "_"))
    return found


def on_gce(cpu: Cpu, platform: str) -> Cpu:
    """The processor as GCE's `instance/cpu-platform` names it; virtual machines hide the model."""
    if platform.startswith("Intel "):
        return Cpu(_INTEL, f"Intel(R) Xeon(R) CPU {platform.removeprefix('Intel ')} GCE")
    return Cpu(_AMD, f"{platform} GCE") if platform.startswith("AMD ") else cpu


def model_of(cpu: Cpu) -> str:
    """The model's name in the brand string; empty when there is none to be found."""
    if cpu.vendor != _INTEL:
        return cpu.brand
    for pattern in _INTEL_MODELS:
        if found := pattern.search(cpu.brand):
            return found[1]
    return ""


def _instruction_set(architecture: str) -> str:
    name = architecture.lower()  # Windows writes AMD64
    if known := _INSTRUCTION_SETS.get(name):
        return known
    if _ARM_32.fullmatch(name):
        return "arm"
    raise ProbeFailed(f"unknown processor architecture {architecture!r}")
