"""Sends events straight to the broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from pipeline.broker.protocol import Broker, Outgoing
from schemas.topics import MACHINE_EVENTS

OpenBroker = Callable[[], AbstractAsyncContextManager[Broker]]
"""Connects to the broker. Entering it raises `Retryable` while the broker is away."""


class BrokerSink:
    """Publishes each event on `machine.events`, under the machine's id."""

    kind = "broker"

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def send(self, machine_id: str, body: bytes, headers: Mapping[str, str]) -> None:
        await self._broker.publish([Outgoing(MACHINE_EVENTS, machine_id, body, headers)])


@asynccontextmanager
async def broker_sink(open_broker: OpenBroker) -> AsyncIterator[BrokerSink]:
    """A sink on a broker that is opened for it."""
    async with open_broker() as broker:
        yield BrokerSink(broker)
