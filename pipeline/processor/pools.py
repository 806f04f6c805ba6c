"""Pools: which group of machines a machine belongs to, by its id."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

POOL_NOT_FOUND: Final = "PoolNotFound"
"""The pool of a machine that no configured pool takes."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_NAME_RULE: Final = "a letter, then letters, digits, '.', '_' or '-'"


class Pools:
    """The configured pools, in order. Immutable."""

    __slots__ = ("_names", "_patterns")

    def __init__(self, pools: Iterable[tuple[str, str]]) -> None:
        """Take pairs of a name and a regular expression, which may match anywhere in a machine id; empty matches all.

        Raises ValueError with a sentence that names the pool.
        """
        self._patterns = tuple((_checked_name(name), _compiled(name, regex)) for name, regex in pools)
        self._names = frozenset(name for name, _ in self._patterns)

    def pool_of(self, machine_id: str) -> str:
        """The first pool that takes the machine, or `POOL_NOT_FOUND`."""
        return next((name for name, regex in self._patterns if regex.search(machine_id)), POOL_NOT_FOUND)

    def are_valid_in(self, dimensions: Mapping[str, Sequence[str] | None]) -> bool:
        """Whether there is exactly one pool in `dimensions`, and it is configured (not: whether it would take the id)."""
        pools = dimensions.get("pool")
        return pools is not None and len(pools) == 1 and pools[0] in self._names


def _checked_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"pool {name!r}: a pool's name is {_NAME_RULE}")
    return name


def _compiled(name: str, regex: str) -> re.Pattern[str]:
    try:
        return re.compile(regex)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"pool {name!r}: {regex!r} is not a regular expression: {error}") from error
