"""Tells the lab what became of commands and controllers: in order, again and again until it is taken.

Steps of commands that were begun are in the journal as well, and are told again after a crash; the journal forgets a command
only once its end was taken. Of each machine's controller only the latest report waits.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from consumers.powercycle_agent.control import ControlPlane
from consumers.powercycle_agent.journal import Entry
from pipeline import logs, metrics
from pipeline.broker.waiting import is_set_within
from pipeline.errors import Rejected, Retryable
from pipeline.retry import Backoff
from schemas.power import ControllerReport, PowerResult, PowerStep

log = logs.get_logger()

_AT_ONCE: Final = 200
_CALL_S: Final = 60.0
_LAST_S: Final = 5.0
"""For what still waits when the process ends."""


@dataclass(frozen=True, slots=True)
class _Letter:
    result: PowerResult
    entry: Entry | None = None


class Delivery:
    """What waits to be told."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._steps: deque[_Letter] = deque()
        self._reports: dict[str, ControllerReport] = {}
        self._wake = asyncio.Event()
        self._last_step_at = -math.inf

    def step(self, step: PowerStep, entry: Entry | None) -> None:
        """`executor.Tell`."""
        self._steps.append(_Letter(step, entry))
        self._wake.set()

    def report(self, report: ControllerReport) -> None:
        """Replaces an older one of the same machine that was not taken yet."""
        self._reports.pop(report.machine_id, None)
        self._reports[report.machine_id] = report
        self._wake.set()

    async def run(self, over: asyncio.Event) -> None:
        """Deliver until `over` is set, and then for a few seconds what still waits."""
        ending = asyncio.create_task(self._wake_at(over))
        backoff = Backoff()
        give_up_at: float | None = None
        try:
            while True:
                if over.is_set():
                    give_up_at = give_up_at or time.monotonic() + _LAST_S
                batch = self._batch()
                if not batch and over.is_set():
                    return
                if not batch:
                    self._wake.clear()
                    await self._wake.wait()
                elif not await self._delivered(batch):
                    pause = backoff.next()
                    if give_up_at is not None and time.monotonic() + pause >= give_up_at:
                        log.warning("results_not_delivered", waiting=len(self._steps))
                        return
                    await is_set_within(over, pause) if give_up_at is None else await asyncio.sleep(pause)
                else:
                    backoff.reset()
        finally:
            ending.cancel()

    async def sink_in(self, seconds: float) -> None:
        """Return once the last step was delivered so long ago."""
        await asyncio.sleep(max(0.0, self._last_step_at + seconds - time.monotonic()))

    async def _wake_at(self, over: asyncio.Event) -> None:
        await over.wait()
        self._wake.set()

    def _batch(self) -> list[_Letter]:
        metrics.POWER_RESULTS_WAITING.set(len(self._steps) + len(self._reports))
        steps = [self._steps[index] for index in range(min(_AT_ONCE, len(self._steps)))]
        return steps or [_Letter(report) for report in list(self._reports.values())[:_AT_ONCE]]

    async def _delivered(self, batch: Sequence[_Letter]) -> bool:
        try:
            async with asyncio.timeout(_CALL_S):
                await self._control.report([letter.result for letter in batch])
        except (Retryable, TimeoutError) as error:
            log.warning("results_wait", reason=str(error) or "no answer", waiting=len(self._steps))
            return False
        except Rejected as error:
            if len(batch) > 1:  # one by one, to find the culprit
                return await self._delivered_singly(batch)
            log.error("result_refused", result=batch[0].result.model_dump_json(), reason=str(error))  # noqa: TRY400
        for letter in batch:
            await self._settle(letter)
        return True

    async def _delivered_singly(self, batch: Sequence[_Letter]) -> bool:
        for letter in batch:
            if not await self._delivered([letter]):
                return False
        return True

    async def _settle(self, letter: _Letter) -> None:
        result = letter.result
        if isinstance(result, ControllerReport):
            if self._reports.get(result.machine_id) is result:
                del self._reports[result.machine_id]
            return
        self._steps.remove(letter)
        self._last_step_at = time.monotonic()
        if letter.entry is not None and not result.status.is_pending:
            await asyncio.to_thread(letter.entry.mark_reported)
