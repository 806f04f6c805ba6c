"""Where simulated machines send their events: to the broker, or to a façade as machines in the field do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Final, Protocol

import aiohttp

from pipeline.broker.protocol import Broker, Outgoing
from pipeline.errors import BrokerUnavailable, Misconfigured, Overloaded, Rejected
from schemas.envelope import EVENT_TYPE, metadata
from schemas.topics import MACHINE_EVENTS

SOURCE: Final = "/simulator"
_AT_ONCE: Final = 16
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)


class Destination(Protocol):
    """Takes events."""

    async def send(self, events: Sequence[tuple[str, bytes]]) -> None:
        """Send machine ids and their events' JSON; return once all are safe. Raises `Retryable` when some may not be."""
        ...


class BrokerDestination:
    """Publishes to the broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def send(self, events: Sequence[tuple[str, bytes]]) -> None:
        """See `Destination`."""
        await self._broker.publish(
            [
                Outgoing(MACHINE_EVENTS, key=machine_id, value=value, headers=metadata(EVENT_TYPE, SOURCE))
                for machine_id, value in events
            ]
        )


class HttpDestination:
    """Posts to a façade, several at a time. The session has the façade's address and our token."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def send(self, events: Sequence[tuple[str, bytes]]) -> None:
        """See `Destination`."""
        outcomes = await asyncio.gather(*(self._post(value) for _, value in events), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _post(self, value: bytes) -> None:
        async with self._turns:
            try:
                async with self._session.post(
                    "/api/v1/events",
                    data=value,
                    headers={"Content-Type": "application/json"},
                    timeout=_TIMEOUT,
                ) as answer:
                    if answer.status >= 400:
                        raise refusal(answer.status, await answer.text())
            except (aiohttp.ClientError, TimeoutError) as error:
                raise BrokerUnavailable(unreachable(error)) from error


def unreachable(error: aiohttp.ClientError | TimeoutError) -> str:
    """Says that the façade did not answer, and why."""
    why = error.strerror if isinstance(error, aiohttp.ClientConnectorError) else str(error)
    return f"the façade cannot be reached: {why or type(error).__name__}"


def refusal(status: int, text: str) -> BrokerUnavailable | Overloaded | Misconfigured | Rejected:
    """The error that tells what the façade's answer asks of us."""
    said = f"the façade answers {status}: {_detail(text)}"
    if status == 429:
        return Overloaded(said)
    if status >= 500:
        return BrokerUnavailable(said)
    if status in (401, 403):
        return Misconfigured(f"{said} (it wants an operator's token in LABKEEPER_TOKEN)")
    return Rejected(said)


def _detail(text: str) -> str:
    """The sentence in a problem document, or what else it is."""
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        return text[:300]
