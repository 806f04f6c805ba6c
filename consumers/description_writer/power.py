"""Power results in, rows kept, changes out: the writer's second job, beside its first and on a topic of its own.

A batch is what is there: whoever watches the page waits for each step. Results that were applied before a crash are told
again, not applied again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from pydantic import ValidationError

from consumers.description_writer.settings import GROUP
from consumers.description_writer.settlement import acknowledge, apply_or_split, log_rejected
from pipeline import logs, metrics
from pipeline.broker.deadletter import DeadLetters, RejectLimit
from pipeline.broker.protocol import Batch, Broker, Outgoing, Received, Subscription
from pipeline.broker.reading import until_stopped
from pipeline.clock import Clock
from pipeline.service import Abandoned, persist
from pipeline.store.messages import change_message
from pipeline.store.power_protocol import PowerStore
from pipeline.store.protocol import LABKEEPER_USER, Updated
from schemas.power import PowerResult, PowerStep, read_result
from schemas.topics import POWER_RESULTS
from schemas.wire import explain

_MOST_RECORDS: Final = 500
_LONGEST_BYTES: Final = 1 << 16
"""A result has 300 bytes, and at most a few thousand of text."""

log = logs.get_logger()


@dataclass(frozen=True, slots=True)
class _Said:
    """One result."""

    message: Received
    result: PowerResult


class PowerResults:
    """One member of the group of writers, as far as it reads `power.results`."""

    def __init__(
        self,
        store: PowerStore,
        broker: Broker,
        clock: Clock,
        reject_limit: RejectLimit = RejectLimit(),  # frozen
    ) -> None:
        self._store = store
        self._broker = broker
        self._dead_letters = DeadLetters(broker, clock, reject_limit)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish the batch in hand. Waits for a broker, or a topic, that is not there yet."""
        async with AsyncExitStack() as stack:
            try:
                reader = await persist(partial(self._join, stack), "broker_unavailable", stop)
                async for batch in until_stopped(reader, stop):
                    await self._take(reader, batch, stop)
            except Abandoned as error:
                log.warning("power_results_abandoned", reason=str(error), note="they will be read again")

    async def _join(self, stack: AsyncExitStack) -> Subscription:
        subscription = self._broker.subscribe(
            POWER_RESULTS, group=GROUP, max_records=_MOST_RECORDS, max_wait=timedelta(0)
        )
        return await stack.enter_async_context(subscription)

    async def _take(self, reader: Subscription, batch: Batch, stop: asyncio.Event) -> None:
        """Everything about one batch."""
        said, rejected = _decode(batch.messages)
        updated = await apply_or_split(said, self._apply, rejected, stop)
        changes = _changes(updated)
        if changes:
            await persist(partial(self._broker.publish, changes), "broker_unavailable", stop)
        if rejected:
            await persist(partial(self._dead_letters.put, rejected), "broker_unavailable", stop)
            log_rejected(rejected)
        await acknowledge(reader, batch, stop)
        _count(said, rejected, len(changes))
        self._dead_letters.count(read=len(batch.messages), rejected=len(rejected))

    async def _apply(self, said: Sequence[_Said]) -> Sequence[Updated]:
        """The broker's time of the last one counts as now, so that the same batch read again comes to the same."""
        now = said[-1].message.published_at
        return await self._store.apply_power([each.result for each in said], now=now)


def _decode(messages: Sequence[Received]) -> tuple[list[_Said], list[tuple[Received, str]]]:
    """Results in order, and messages that are none, with a reason that names the field."""
    said: list[_Said] = []
    rejected: list[tuple[Received, str]] = []
    for message in messages:
        if len(message.value) > _LONGEST_BYTES:
            rejected.append((message, f"body: larger than {_LONGEST_BYTES} bytes"))
            continue
        try:
            said.append(_Said(message, read_result(message.value)))
        except ValidationError as error:
            rejected.append((message, explain(error)))
    return said, rejected


def _changes(updated: Sequence[Updated]) -> list[Outgoing]:
    """Of each machine the newest state alone, where a split batch had several to tell of."""
    newest = {each.machine_id: each for each in updated}
    return [change_message(each, LABKEEPER_USER) for each in newest.values()]


def _count(said: Sequence[_Said], rejected: Sequence[tuple[Received, str]], published: int) -> None:
    """Metrics, after everything is safe: an attempt that was repeated must not count twice."""
    bad = {(message.partition, message.offset) for message, _ in rejected}
    for each in said:
        if (each.message.partition, each.message.offset) in bad:
            continue
        if isinstance(each.result, PowerStep):
            metrics.POWER_STEPS.labels(each.result.status.value).inc()
            log.info(
                "power_step",
                machine=each.result.machine_id,
                command=each.result.command_id,
                status=each.result.status.value,
                agent=each.result.agent,
            )
        else:
            metrics.POWER_REPORTS.labels(each.result.agent, each.result.state.value).inc()
    metrics.CHANGES_SENT.labels("power").inc(published)
