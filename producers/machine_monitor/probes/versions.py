"""Versions as Swarming dimensions want them: in every precision, so that a task may ask for as much as it cares about."""

from __future__ import annotations


def in_all_precisions(prefix: str, version: str) -> list[str]:
    """(`Mac`, `12.4.35`) is `Mac`, `Mac-12`, `Mac-12.4`, `Mac-12.4.35`; without a version only `Mac`."""
    found = [prefix]
    parts = version.split(".") if version else []
    found += [f"{prefix}-{'.'.join(parts[:count])}" for count in range(1, len(parts) + 1)]
    return found
