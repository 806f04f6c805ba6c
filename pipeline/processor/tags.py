"""Labels of a machine's metrics."""

from __future__ import annotations

from typing import Final

from schemas.description import Description

TAGS: Final = ("id", "os", "device_type")
"""In the order in which `metric_tags` gives them."""


def metric_tags(description: Description) -> dict[str, str]:
    """`id`, `os` and `device_type`: the last value of each dimension, empty if it has none."""
    return {name: (description.dimension(name) or [""])[-1] for name in TAGS}
