from __future__ import annotations

import pytest

from schemas.ids import counting_order


@pytest.mark.parametrize(
    "counted",
    [
        ["hall-0-1", "hall-0-2", "hall-0-10", "hall-1-0"],
        ["Rack4-9", "rack4-10", "RACK5-1"],
        ["rack4-7", "rack4-007a", "rack4-8"],
        ["1a", "2", "10", "a"],
    ],
    ids=["numbers", "case", "zeros", "a digit first"],
)
def test_ids_are_sorted_as_people_count(counted: list[str]) -> None:
    as_text = sorted(counted)
    assert sorted(as_text, key=counting_order) == counted


def test_ids_that_differ_in_case_only_have_one_order() -> None:
    """Else who lists them twice would see them in another order."""
    assert sorted(["b", "B"], key=counting_order) == sorted(["B", "b"], key=counting_order)
