"""Sends events straight to the broker."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.broker.protocol import Broker, Outgoing
from schemas.topics import MACHINE_EVENTS


class BrokerSink:
    """Publishes each event on `machine.events`, under the machine's id."""

    kind = "broker"

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def send(self, machine_id: str, body: bytes, headers: Mapping[str, str]) -> None:
        await self._broker.publish([Outgoing(MACHINE_EVENTS, machine_id, body, headers)])
