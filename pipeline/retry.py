"""How long to wait before the next try."""

from __future__ import annotations

import random


class Backoff:
    """Capped exponential back-off with full jitter: many who failed together do not come back together."""

    def __init__(self, first_s: float = 0.05, cap_s: float = 10.0) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._tries = 0

    def next(self) -> float:
        """Seconds to wait before the next try."""
        ceiling = min(self._cap_s, self._first_s * 2**self._tries)
        self._tries = min(self._tries + 1, 30)
        return random.uniform(0, ceiling)  # noqa: S311  # spreads load, guards nothing

    def reset(self) -> None:
        """Start anew, after a success."""
        self._tries = 0
