"""Remembers what is expensive to ask and hardly ever changes: graphics cards, drivers, Docker, the cloud."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, Generic, TypeVar

from producers.machine_monitor.probes.doubts import Doubts
from producers.machine_monitor.probes.protocol import ProbeFailed

T = TypeVar("T")

_RETRY: Final = timedelta(minutes=5)
"""When to ask again after a failure, if that is sooner than the ordinary period."""


class Remembered(Generic[T]):
    """One fact. A failure to learn it is logged and leaves the last answer, or `fallback` when there was none."""

    def __init__(
        self,
        name: str,
        ask: Callable[[], Awaitable[T]],
        *,
        fallback: T,
        period: timedelta,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._ask = ask
        self._value = fallback
        self._period_s = period.total_seconds()
        self._monotonic = monotonic
        self._doubts = Doubts()
        self._ask_again_at: float | None = None
        """None: never asked."""

    async def get(self) -> T:
        """The fact, asked afresh when its period is over."""
        if self._ask_again_at is not None and self._monotonic() < self._ask_again_at:
            return self._value
        wait_s = self._period_s
        try:
            self._value = await self._ask()
        except ProbeFailed as error:
            wait_s = min(wait_s, _RETRY.total_seconds())
            self._doubts.tell(self._name, error)
        self._ask_again_at = self._monotonic() + wait_s
        return self._value
