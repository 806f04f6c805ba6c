"""The brokers that pass `test_broker.py`, and what each needs for it. A new one adds a case, and its gaps by name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, cast

import pytest

from pipeline.broker.embedded import EmbeddedBroker
from pipeline.broker.embedded_membership import GroupMembership
from pipeline.broker.embedded_subscription import EmbeddedSubscription
from pipeline.broker.memory import MemoryBroker, MemorySubscription
from pipeline.broker.protocol import Broker, Subscription
from pipeline.clock import ManualClock, SystemClock

LEASE: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class BrokerCase:
    """A broker under test."""

    broker: Broker
    other: Broker
    """The same broker as another process would see it."""
    clock: ManualClock
    """Decides what is old enough to be deleted; the broker's own clock may be another one."""
    trim: Callable[[], Awaitable[object]]
    """Delete what is older than its topic keeps it."""
    stall: Callable[[Subscription], None]
    """Make a member silent, as if its process had been stopped, until its lease has run out."""


@contextlib.asynccontextmanager
async def memory_case(_: pytest.FixtureRequest) -> AsyncIterator[BrokerCase]:
    """Everything in this process."""
    clock = ManualClock(SystemClock().now())
    broker = MemoryBroker(clock=clock)

    def stall(subscription: Subscription) -> None:
        member = cast("MemorySubscription", subscription)
        member._group.leave(member)

    yield BrokerCase(broker, broker, clock, broker.trim, stall)
    await broker.close()


@contextlib.asynccontextmanager
async def embedded_case(request: pytest.FixtureRequest) -> AsyncIterator[BrokerCase]:
    """On a real PostgreSQL."""
    url = request.getfixturevalue("database_url")
    clock = ManualClock(SystemClock().now())
    broker, other = (EmbeddedBroker(url, clock=clock, lease=LEASE) for _ in range(2))

    async def no_beat() -> None:
        await asyncio.Event().wait()

    def stall(subscription: Subscription) -> None:
        membership = cast("EmbeddedSubscription", subscription)._membership
        assert isinstance(membership, GroupMembership)
        membership.beat = no_beat  # type: ignore[method-assign]  # as if the process stood still

    yield BrokerCase(broker, other, clock, broker.trim, stall)
    await broker.close()
    await other.close()


CASES: Final[Mapping[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[BrokerCase]]]] = {
    "memory": memory_case,
    "embedded": embedded_case,
}

MARKS: Final[Mapping[str, tuple[pytest.MarkDecorator, ...]]] = {"embedded": (pytest.mark.integration,)}

KNOWN_GAPS: Final[Mapping[tuple[str, str], str]] = {}
"""Broker and test to the reason why that broker cannot keep that promise. Strict: a gap that has closed must go."""

LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
