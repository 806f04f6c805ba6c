"""Labels of metrics."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.processor.tags import metric_tags
from tests.unit.pipeline.processor.samples import description


@pytest.mark.parametrize(
    ("dimensions", "tags"),
    [
        (None, ("", "", "")),
        ({"id": [], "os": None}, ("", "", "")),
        ({"id": ["a"], "os": ["Linux", "Debian"], "device_type": ["x", "sargo"]}, ("a", "Debian", "sargo")),
        ({"id": ["a", ""], "pool": ["Skia"]}, ("", "", "")),
    ],
)
def test_each_tag_is_the_last_value_of_its_dimension(dimensions: Any, tags: tuple[str, str, str]) -> None:
    assert metric_tags(description(dimensions=dimensions)) == dict(
        zip(("id", "os", "device_type"), tags, strict=True)
    )
