"""Which partition a key belongs to, and how the members of a group share the partitions."""

from __future__ import annotations

import zlib


def partition_of(key: bytes, partitions: int) -> int:
    """Where messages of this key go. Never change it: messages of one key would overtake each other."""
    return zlib.crc32(key) % partitions


def fair_share(partitions: int, members: int, rank: int) -> int:
    """How many partitions the member of that rank holds, so that all are held and no two numbers differ by two."""
    return partitions // members + (rank < partitions % members)
