"""Where keys go, and how members share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.broker.partitions import fair_share, partition_of


def test_keys_stay_where_they_have_always_been() -> None:
    """These numbers are in databases by now."""
    keys = (b"rack4-07", b"skia-rpi-001", b"", "ä".encode())
    assert [partition_of(key, 8) for key in keys] == [4, 0, 0, 3]


@given(partitions=st.integers(0, 200), members=st.integers(1, 200))
def test_shares_add_up_and_differ_by_one_at_most(partitions: int, members: int) -> None:
    shares = [fair_share(partitions, members, rank) for rank in range(members)]
    assert sum(shares) == partitions
    assert max(shares) - min(shares) <= 1
