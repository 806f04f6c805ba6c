"""What `adb shell getprop` says about a device, as Swarming dimensions.

A real answer is 35 KB, of which nine lines matter, and it is usually the very text of the heartbeat before. So only lines
that begin like a wanted one are read as a whole, and what came out is remembered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from schemas.wire import Dimensions

_DIMENSION_PROPERTIES: Final = {
    "device_os": ("ro.build.id",),
    "device_os_flavor": ("ro.product.brand", "ro.product.system.brand"),
    "device_os_type": ("ro.build.type",),
    "device_type": ("ro.product.device", "ro.build.product", "ro.product.board"),
}
"""Which properties a dimension's values come from, in order; `ro.build.product` is deprecated, so it comes late."""

_INCREMENTAL: Final = "ro.build.version.incremental"
"""Some devices are updated under the same build id; the two together tell."""
_PRODUCT_NAME: Final = "ro.product.name"

PROPERTIES: Final = (
    *(name for names in _DIMENSION_PROPERTIES.values() for name in names),
    _INCREMENTAL,
    _PRODUCT_NAME,
)
"""All properties that are looked at."""

_WANTED_LINES: Final = re.compile(rf"\n(\[(?:{'|'.join(map(re.escape, PROPERTIES))})\]:.*)")
_LINE: Final = re.compile(r"\[(.+)\]:[\t\f\r ]*\[(.*)\]")
"""Greedy on purpose: `[a]: [x]: [y]` is the key `a]: [x` with the value `y`."""

_REMEMBERED_LIMIT: Final = 16384
_remembered: dict[tuple[int, int], Dimensions] = {}
"""Results by hash and length of the text. The hash has 64 bits and a secret key, so that two texts never meet in practice;
keeping the texts themselves would take 35 KB each."""


def dimensions_from_getprop(getprop: str) -> Dimensions:
    """Dimensions of a device by the output of `adb shell getprop`; what is not in there is left out. Do not change it."""
    key = (hash(getprop), len(getprop))
    dimensions = _remembered.get(key)
    if dimensions is None:
        if len(_remembered) >= _REMEMBERED_LIMIT:
            _remembered.clear()
        dimensions = _remembered[key] = _dimensions(wanted_properties(getprop))
    return dimensions


def wanted_properties(getprop: str) -> dict[str, str]:
    """Those of `PROPERTIES` that the text gives a value, which may be empty. The last line of a property wins."""
    properties = {}
    for line in _WANTED_LINES.findall("\n" + getprop):
        found = _LINE.match(line)
        if found is not None and found[1] in PROPERTIES:
            properties[found[1]] = found[2]
    return properties


def _dimensions(properties: Mapping[str, str]) -> Dimensions:
    dimensions: Dimensions = {}
    for dimension, names in _DIMENSION_PROPERTIES.items():
        values = list(dict.fromkeys(value for name in names if (value := properties.get(name))))
        if values:
            dimensions[dimension] = values
    if builds := dimensions.get("device_os"):
        dimensions["device_os"] = _builds(builds, properties.get(_INCREMENTAL))
        dimensions["android_devices"] = ["1"]
        dimensions["os"] = ["Android"]
    if brands := dimensions.get("device_os_flavor"):
        dimensions["device_os_flavor"] = [_flavor(brand) for brand in brands]
    if properties.get(_PRODUCT_NAME, "").endswith("_hwasan"):
        dimensions["android_hwasan_build"] = ["1"]
    return dimensions


def _builds(builds: list[str], incremental: str | None) -> list[str]:
    """Build ids, the first one with the incremental version, and their first characters unless lower-case; sorted."""
    if incremental:
        builds = [*builds, f"{builds[0]}_{incremental}"]
    initials = (build[0] for build in builds if build[0].upper() == build[0])
    return sorted(dict.fromkeys((*builds, *initials)))


def _flavor(brand: str) -> str:
    flavor = brand.lower()
    return "android" if flavor == "aosp" else flavor
