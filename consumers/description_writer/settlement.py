"""What the writer does with each batch, whatever it reads: apply it whole or in parts, park what is bad, acknowledge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from pipeline import logs, metrics
from pipeline.broker.protocol import Batch, Received, Subscription
from pipeline.errors import LeaseLost, Rejected
from pipeline.service import persist
from pipeline.store.protocol import Updated

_TOLD: Final = 10
"""Dead letters of one batch that the log names: a flood must not fill the disk twice."""

log = logs.get_logger()


class Item(Protocol):
    """Something that was read."""

    @property
    def message(self) -> Received:
        """How it came."""
        ...


ItemT = TypeVar("ItemT", bound=Item)
Apply = Callable[[Sequence[ItemT]], Awaitable[Sequence[Updated]]]
"""Applies items in one transaction. Raises `Rejected` when one of them cannot be applied; then none is."""


async def apply_or_split(
    items: Sequence[ItemT], apply: Apply[ItemT], rejected: list[tuple[Received, str]], stop: asyncio.Event
) -> list[Updated]:
    """Apply in one transaction; if that fails for one item's sake, halve until that item is alone, and add it to `rejected`."""
    if not items:
        return []
    try:
        return list(await persist(partial(apply, items), "store_unavailable", stop))
    except Rejected as error:
        if len(items) == 1:
            metrics.STORE_UPDATE_FAIL.inc()
            rejected.append((items[0].message, str(error)))
            return []
        middle = len(items) // 2
        first = await apply_or_split(items[:middle], apply, rejected, stop)
        return first + await apply_or_split(items[middle:], apply, rejected, stop)


async def acknowledge(reader: Subscription, batch: Batch, stop: asyncio.Event) -> None:
    """Record that the batch has been dealt with; if another member has taken over, it deals with it again."""

    async def once() -> None:
        try:
            await reader.acknowledge(batch)
        except LeaseLost as error:
            log.warning("lease_lost", reason=str(error), records=len(batch.messages))

    await persist(once, "broker_unavailable", stop)


def log_rejected(rejected: Sequence[tuple[Received, str]]) -> None:
    """Tell of dead letters."""
    for message, reason in rejected[:_TOLD]:
        log.warning(
            "dead_letter",
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            key=message.key,
            reason=reason,
        )
    if len(rejected) > _TOLD:
        log.warning("dead_letters_more", count=len(rejected) - _TOLD, note="labkeeper dead list shows them")
