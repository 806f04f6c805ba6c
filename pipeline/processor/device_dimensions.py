"""Which dimensions come from a device, and what becomes of them when another kind of device reports.

Left alone, dimensions only ever grow, and a host that once had an Android phone would claim to have it for ever.
"""

from __future__ import annotations

from typing import Final

from schemas.description import Description
from schemas.event import DeviceKind
from schemas.wire import Dimensions

DERIVED: Final[dict[DeviceKind, frozenset[str]]] = {
    "android": frozenset(
        {
            "android_devices",
            "android_hwasan_build",
            "device_os",
            "device_os_flavor",
            "device_os_type",
            "device_type",
            "os",
        }
    ),
    "chromeos": frozenset({"chromeos_channel", "chromeos_milestone", "os", "release_version"}),
    "ios": frozenset({"device_type", "os"}),
    "pyocd": frozenset({"device_type"}),
    "standalone": frozenset({"cores", "cpu", "docker_installed", "gce", "gpu", "machine_type", "os"}),
}
"""The dimensions that each kind of device may report."""

_ALL: Final = frozenset[str]().union(*DERIVED.values())
_FOREIGN: Final = {kind: _ALL - derived for kind, derived in DERIVED.items()}


def with_reported(before: Description, kind: DeviceKind | None, reported: Dimensions) -> Dimensions:
    """Dimensions after a device of `kind` (None: no device was found) has reported some.

    Reported ones replace their namesakes. What only other kinds report goes; when the kind has changed, everything that
    came from the device before goes. Returns the map of `before` itself if it would come out equal.
    """
    current = before.dimensions
    if current is None:
        return reported
    stale = _stale(before, kind)
    if stale.isdisjoint(current):
        merged = {**current, **reported}
    else:
        merged = {name: values for name, values in current.items() if name not in stale} | reported
    return current if merged == current else merged


def _stale(before: Description, kind: DeviceKind | None) -> frozenset[str]:
    if kind is None:
        return frozenset()
    kind_before = before.device_kind or _inferred_kind(before)
    return _FOREIGN[kind] if kind_before in ("", kind) else _ALL


def _inferred_kind(description: Description) -> str:
    """The kind by its dimensions, for rows older than `DeviceKind`; empty if they do not tell.

    Leftovers of several kinds may be in there. `os` is overwritten by nearly every kind, so it belongs to the last.
    """
    match description.dimension("os"):
        case ["Android", *_]:
            return "android"
        case ["ChromeOS", *_]:
            return "chromeos"
        case ["iOS", *_]:
            return "ios"
    if description.dimension("cores"):
        return "standalone"
    return "pyocd" if description.dimension("device_type") else ""
