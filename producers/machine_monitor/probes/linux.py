"""The Linux host itself: distribution, processor, graphics cards."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from producers.machine_monitor.probes.commands import CommandRunner
from producers.machine_monitor.probes.cpus import Cpu
from producers.machine_monitor.probes.doubts import Doubts
from producers.machine_monitor.probes.protocol import ProbeFailed
from producers.machine_monitor.probes.versions import in_all_precisions

NVIDIA: Final = "10de"
_MESA: Final = ("8086", "1002")
"""Intel's and AMD's cards, whose driver is Mesa."""
_DISPLAY_CLASS: Final = "03"
_PCI_ID = re.compile(r" \[([0-9a-f]{4})\]$")
_MESA_VERSION = re.compile(r"^Version: (\d+\.\d+\.\d+)", re.MULTILINE)
_NUMERIC_VERSION = re.compile(r"\d+(\.\d+)*")
_CPU_KEYS: Final = frozenset(("vendor_id", "isa", "cpu model", "Hardware", "model name", "Processor"))


@dataclass(frozen=True, slots=True)
class Gpu:
    """A graphics card, by PCI ids in lower-case hexadecimal."""

    vendor: str
    device: str


class LinuxFacts:
    """Reads what Linux says about itself. `root` is `/`, but for tests."""

    def __init__(self, commands: CommandRunner, *, root: Path = Path("/")) -> None:
        self._commands = commands
        self._root = root
        self._doubts = Doubts()

    async def os_versions(self) -> list[str]:
        try:
            return distribution_versions(*self._distribution())
        except ProbeFailed as error:
            self._doubts.tell("distribution", error)
            return distribution_versions("", "")

    async def cpu(self) -> Cpu:
        return parse_cpuinfo(self._read("proc/cpuinfo"))

    async def gpus(self) -> list[str]:
        cards = parse_lspci((await self._commands.run("lspci", "-mm", "-nn")).stdout)
        found: list[str] = []
        for card in cards:
            found += gpu_dimensions(card.vendor, card.device, await self._driver_version(card.vendor))
        return sorted(found) or ["none"]

    def _distribution(self) -> tuple[str, str]:
        release = parse_os_release(self._os_release())
        name, version = release.get("ID", ""), release.get("VERSION_ID", "")
        if name == "debian":  # its os-release holds the major version only
            with_point = self._first_line("etc/debian_version")
            version = with_point if _NUMERIC_VERSION.fullmatch(with_point) else version
        return name, version

    def _os_release(self) -> str:
        try:
            return self._read("etc/os-release")
        except ProbeFailed:
            return self._read("usr/lib/os-release")

    async def _driver_version(self, vendor: str) -> str:
        try:
            if vendor == NVIDIA:
                return self._read("sys/module/nvidia/version").strip()
            if vendor in _MESA:
                return parse_dpkg_version((await self._commands.run("dpkg", "-s", "libgl1-mesa-dri")).stdout)
        except ProbeFailed as error:
            self._doubts.tell("graphics driver version", error)
        return ""

    def _first_line(self, path: str) -> str:
        try:
            return self._read(path).partition("\n")[0].strip()
        except ProbeFailed:
            return ""

    def _read(self, path: str) -> str:
        full = self._root / path
        try:
            return full.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise ProbeFailed(f"{full} cannot be read: {error.strerror}") from error


def distribution_versions(name: str, version: str) -> list[str]:
    """(`greeb`, `4.3`) is `Linux`, `Greeb`, `Greeb-4`, `Greeb-4.3`; an unknown distribution only `Linux`."""
    return ["Linux", *(in_all_precisions(name[:1].upper() + name[1:], version) if name else ())]


def parse_os_release(text: str) -> dict[str, str]:
    """The assignments in `/etc/os-release`; lines that a shell would not take as one are skipped."""
    facts: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        try:
            words = shlex.split(value)
        except ValueError:
            continue
        if equals and not key.startswith("#") and len(words) == 1:
            facts[key] = words[0]
    return facts


def parse_cpuinfo(text: str) -> Cpu:
    """The first processor in `/proc/cpuinfo`. On ARM the "vendor" is the model and the "brand" is the board."""
    facts: dict[str, str] = {}
    for line in text.partition("\n\n")[0].splitlines():
        key, _, value = line.partition(": ")
        if value and key.strip() in _CPU_KEYS:
            facts[key.strip()] = value
    if "vendor_id" in facts:
        return Cpu(facts["vendor_id"], facts.get("model name", ""))
    if "mips" in facts.get("isa", ""):
        return Cpu(brand=facts.get("cpu model", ""))
    vendor = facts.get("model name") or facts.get("Processor") or "N/A"
    return Cpu(vendor, facts.get("Hardware", "").removesuffix(" (Flattened Device Tree)"))


def parse_lspci(text: str) -> list[Gpu]:
    """Graphics cards in `lspci -mm -nn`. Raises `ProbeFailed` when quotes do not match."""
    found: list[Gpu] = []
    for line in text.splitlines():
        try:
            fields = shlex.split(line)
        except ValueError as error:
            raise ProbeFailed(f"lspci wrote a line that cannot be split ({error}): {line[:200]!r}") from error
        if len(fields) < 4:
            continue
        ids = [_PCI_ID.search(field) for field in fields[1:4]]
        if ids[0] and ids[1] and ids[2] and ids[0][1].startswith(_DISPLAY_CLASS):
            found.append(Gpu(ids[1][1], ids[2][1]))
    return found


def parse_dpkg_version(text: str) -> str:
    """The first three numbers of a package's version; empty when there are not three."""
    found = _MESA_VERSION.search(text)
    return found[1] if found else ""


def gpu_dimensions(vendor: str, device: str, version: str) -> list[str]:
    """`10de`, `10de:1cb3`, `10de:1cb3-440.26`; the last only when the driver's version is known."""
    found = [vendor, f"{vendor}:{device}"]
    return [*found, f"{vendor}:{device}-{version}"] if version else found
