"""The devices of a simulated lab, and where they stand. The same seed always furnishes the same lab."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Final

from schemas.description import AttachedDevice

SHELVES_PER_RACK: Final = 5
MACHINES_PER_SHELF: Final = 8


@dataclass(frozen=True, slots=True)
class Phone:
    """A model of Android phone, with the properties that tell it from others."""

    slug: str
    device: str
    """Code name, such as `redfin`."""
    board: str
    brand: str
    manufacturer: str
    model: str
    build_id: str
    incremental: str
    release: str
    sdk: int
    abi: str
    build_type: str = "user"
    hwasan: bool = False

    @property
    def product(self) -> str:
        """`ro.product.name`."""
        return f"{self.device}_hwasan" if self.hwasan else self.device

    @property
    def tags(self) -> str:
        """`ro.build.tags`."""
        return "release-keys" if self.build_type == "user" else "dev-keys"

    @property
    def fingerprint(self) -> str:
        """`ro.build.fingerprint`."""
        build = f"{self.brand}/{self.product}/{self.device}:{self.release}/{self.build_id}"
        return f"{build}/{self.incremental}:{self.build_type}/{self.tags}"


@dataclass(frozen=True, slots=True)
class AppleDevice:
    """A model of iPhone or iPad."""

    slug: str
    device_type: str
    version: str


@dataclass(frozen=True, slots=True)
class Chromebook:
    """A model of Chromebook on one release channel."""

    slug: str
    channel: str
    milestone: str
    release_version: str


@dataclass(frozen=True, slots=True)
class Board:
    """A microcontroller board."""

    slug: str
    device_type: str


@dataclass(frozen=True, slots=True)
class Computer:
    """A computer that is itself what is tested."""

    slug: str
    cores: int
    cpus: tuple[str, ...]
    gpus: tuple[str, ...]
    os_versions: tuple[str, ...]
    machine_type: str = ""
    """Google Compute Engine's, for those that stand in its data centres."""
    docker_installed: bool = False


Device = Phone | AppleDevice | Chromebook | Board | Computer

PHONES: Final = (
    Phone("pixel5", "redfin", "redfin", "google", "Google", "Pixel 5", "UP1A.231105.001", "10817346", "14", 34, "arm64-v8a"),
    Phone("pixel6", "oriole", "oriole", "google", "Google", "Pixel 6", "BP1A.250305.019", "13003188", "15", 35, "arm64-v8a"),
    Phone("pixel7", "panther", "panther", "google", "Google", "Pixel 7", "AP4A.250205.002", "12821496", "15", 35, "arm64-v8a",
          "userdebug"),
    Phone("pixel8", "shiba", "shiba", "google", "Google", "Pixel 8", "BP1A.250305.019", "13003188", "15", 35, "arm64-v8a",
          "userdebug", hwasan=True),
    Phone("pixel9pro", "caiman", "caiman", "google", "Google", "Pixel 9 Pro", "BP1A.250305.020", "13009785", "15", 35, "arm64-v8a"),
    Phone("galaxys20", "x1q", "kona", "samsung", "samsung", "SM-G981U1", "TP1A.220624.014", "G981U1UES7HWB1", "13", 33, "arm64-v8a"),
    Phone("galaxys23", "dm1q", "kalama", "samsung", "samsung", "SM-S911U1", "UP1A.231005.007", "S911U1UES3CXD3", "14", 34, "arm64-v8a"),
    Phone("galaxya51", "a51", "exynos9611", "samsung", "samsung", "SM-A515F", "TP1A.220624.014", "A515FXXS8HWI1", "13", 33, "arm64-v8a"),
    Phone("motog4", "athene", "msm8952", "motorola", "motorola", "Moto G (4)", "NPJS25.93-14-18", "24", "7.0", 24, "armeabi-v7a"),
    Phone("wembley", "wembley_2GB", "wembley_2GB", "alps", "alps", "wembley_2GB", "SP2A.220505.008", "8782922", "12", 32, "armeabi-v7a",
          "userdebug"),
    Phone("redmi9a", "dandelion", "dandelion", "Redmi", "Xiaomi", "M2006C3LG", "QP1A.190711.020", "V12.0.22.0.QCDMIXM", "10", 29,
          "armeabi-v7a"),
)  # fmt: skip
APPLE_DEVICES: Final = (
    AppleDevice("iphone8", "iPhone10,1", "16.7.10"),
    AppleDevice("iphone11", "iPhone12,1", "17.7.2"),
    AppleDevice("iphone15pro", "iPhone16,1", "18.3.1"),
    AppleDevice("ipadpro11", "iPad8,1", "18.3"),
)
CHROMEBOOKS: Final = (
    Chromebook("kevin", "stable-channel", "124", "15823.60.0"),
    Chromebook("brya", "beta-channel", "134", "16181.27.0"),
    Chromebook("dedede", "dev-channel", "135", "16209.0.0"),
)
BOARDS: Final = (
    Board("nrf52840", "nrf52840"),
    Board("stm32f429", "stm32f429zitx"),
    Board("lpc55s69", "lpc55s69"),
)
COMPUTERS: Final = (
    Computer("nuc7i5", 4, ("x86", "x86-64", "x86-64-i5-7260U"), ("8086", "8086:5926", "8086:5926-22.3.6"),
             ("Linux", "Debian", "Debian-12", "Debian-12.9"), docker_installed=True),
    Computer("z4g4", 16, ("x86", "x86-64"), ("10de", "10de:1cb3", "10de:1cb3-550.120"), ("Linux", "Ubuntu", "Ubuntu-22", "Ubuntu-22.04")),
    Computer("macmini9", 8, ("arm64", "arm64-64", "arm64-64-Apple_M1"), ("106b", "106b:0000"), ("Mac", "Mac-14", "Mac-14.7", "Mac-14.7.4")),
    Computer("alphar2", 8, ("x86", "x86-64", "x86-64-i7-7700HQ"), ("10de", "10de:1c20", "10de:1c20-31.0.15.3699"),
             ("Windows", "Windows-10", "Windows-10-19045")),
    Computer("gce", 16, ("x86", "x86-64", "x86-64-Haswell_GCE"), ("none",), ("Linux", "Debian", "Debian-12", "Debian-12.9"),
             machine_type="n1-standard-16", docker_installed=True),
)  # fmt: skip

_SHARES: Final[tuple[tuple[tuple[Device, ...], int], ...]] = (
    (PHONES, 56),
    (APPLE_DEVICES, 13),
    (COMPUTERS, 17),
    (CHROMEBOOKS, 8),
    (BOARDS, 6),
)

_NOTES: Final = (
    "USB hub port 3 is loose, do not touch the cable",
    "battery swollen, replacement ordered",
    "screen cracked, harmless",
    "borrowed from the graphics team until the end of the quarter",
    "flashed by hand; ask before updating",
)
_NOTED: Final = 0.04
_WEAK: Final = 0.1
_HOT: Final = 0.12


@dataclass(frozen=True, slots=True)
class Machine:
    """One place in the lab: a host and the device on it."""

    id: str
    """Such as `rack2-shelf3-pixel5-07`."""
    device: Device
    serial: str
    weak_battery: bool = False
    """Old, charges slowly and drains fast."""
    runs_hot: bool = False
    note: str = ""
    """What somebody has to say about it."""

    @property
    def attached_device(self) -> AttachedDevice:
        """What its monitor shall interrogate."""
        match self.device:
            case Phone():
                return AttachedDevice.ADB
            case AppleDevice():
                return AttachedDevice.IOS
            case Chromebook():
                return AttachedDevice.SSH
            case Board():
                return AttachedDevice.PYOCD
            case Computer():
                return AttachedDevice.NONE

    @property
    def ssh_user_ip(self) -> str:
        """Where a ChromeOS device is reached; empty for others."""
        return f"root@{self.id}-dut" if isinstance(self.device, Chromebook) else ""


def furnish(machines: int, *, seed: int) -> tuple[Machine, ...]:
    """A lab of so many machines. A bigger lab of the same seed begins with the machines of the smaller one."""
    choice = Random(f"lab {seed}")  # noqa: S311  # a toy, not a secret
    numbers: Counter[str] = Counter()
    return tuple(_placed(index, choice, numbers) for index in range(machines))


def _placed(index: int, choice: Random, numbers: Counter[str]) -> Machine:
    models = choice.choices([models for models, _ in _SHARES], [share for _, share in _SHARES])[0]
    device = choice.choice(models)
    numbers[device.slug] += 1
    shelf = index // MACHINES_PER_SHELF
    place = f"rack{shelf // SHELVES_PER_RACK + 1}-shelf{shelf % SHELVES_PER_RACK + 1}"
    return Machine(
        id=f"{place}-{device.slug}-{numbers[device.slug]:02}",
        device=device,
        serial=f"{choice.getrandbits(48):012X}",
        weak_battery=choice.random() < _WEAK,
        runs_hot=choice.random() < _HOT,
        note=choice.choice(_NOTES) if choice.random() < _NOTED else "",
    )
