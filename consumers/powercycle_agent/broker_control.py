"""The lab over broker and store: for agents that reach both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, Protocol

from pydantic import ValidationError

from pipeline import logs
from pipeline.broker.protocol import Broker, From, Outgoing, Subscription
from pipeline.store.power_pages import every_command
from pipeline.store.power_protocol import PowerStore
from pipeline.store.protocol import Leases
from schemas import envelope
from schemas.power import PowerCommand, PowerRecord, PowerResult, agent_lease
from schemas.topics import POWER_COMMANDS, POWER_RESULTS
from schemas.wire import explain

log = logs.get_logger()

_LATELY: Final = 1000
_WAIT_FOR_MORE: Final = timedelta(milliseconds=1)


class AgentStore(PowerStore, Leases, Protocol):
    """What an agent needs of the store."""


class BrokerControl:
    """`control.ControlPlane` on a broker and a store."""

    def __init__(self, store: AgentStore, broker: Broker, agent: str) -> None:
        self._store = store
        self._broker = broker
        self._source = f"/powercycle-agents/{agent}"

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[PowerCommand]]:
        """See the protocol. Every agent reads every command, and no broker remembers it for us."""
        subscription = self._broker.subscribe(
            POWER_COMMANDS, group=None, start=From.LATEST, max_wait=_WAIT_FOR_MORE
        )
        async with subscription as reader:
            yield _commands(reader)

    async def pending(self) -> Sequence[PowerRecord]:
        """See the protocol."""
        newest_first = [record async for record in every_command(self._store, pending=True)]
        return newest_first[::-1]

    async def ended_lately(self) -> Sequence[PowerRecord]:
        """See the protocol."""
        return await self._store.power_commands(pending=False, limit=_LATELY)

    async def report(self, results: Sequence[PowerResult]) -> None:
        """See the protocol."""
        await self._broker.publish([self._message(result) for result in results])

    async def acquire(self, name: str, owner: str, *, seconds: float) -> bool:
        """See the protocol."""
        return await self._store.acquire(agent_lease(name), owner, seconds=seconds)

    async def release(self, name: str, owner: str) -> None:
        """See the protocol."""
        await self._store.release(agent_lease(name), owner)

    def _message(self, result: PowerResult) -> Outgoing:
        return Outgoing(
            POWER_RESULTS,
            result.machine_id,
            result.model_dump_json().encode(),
            envelope.metadata(envelope.POWER_RESULT_TYPE, self._source),
        )


async def _commands(reader: Subscription) -> AsyncIterator[PowerCommand]:
    async for batch in reader:
        for message in batch.messages:
            try:
                yield PowerCommand.model_validate_json(message.value)
            except ValidationError as error:  # every agent reads it: nobody's to park
                log.error("command_not_understood", key=message.key, reason=explain(error))  # noqa: TRY400
