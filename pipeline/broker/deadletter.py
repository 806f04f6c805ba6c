"""Where messages go that can never be processed: to `<topic>.dead`, as they came, with reason, place and time in headers.

A few bad messages are a producer's problem. When most of what arrives is refused, the problem is here or upstream, and
draining a healthy topic into the dead letters would hide it: then `TooManyRejects` stops the consumer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import metrics
from pipeline.broker.protocol import Broker, Outgoing, Received
from pipeline.clock import Clock
from pipeline.errors import TooManyRejects
from schemas import envelope
from schemas.topics import dead_letters_of
from schemas.wire import format_time

_LONGEST_REASON = 2000


@dataclass(frozen=True, slots=True)
class RejectLimit:
    """How many of the latest messages may be refused."""

    rejects: int = 1000
    """This many refused ones stop the consumer ..."""
    among: int = 2000
    """... when they are found among this many."""


class DeadLetters:
    """Parks messages for one consumer."""

    def __init__(self, broker: Broker, clock: Clock, limit: RejectLimit = RejectLimit()) -> None:
        self._broker = broker
        self._clock = clock
        self._limit = limit
        self._latest: deque[tuple[int, int]] = deque()
        self._read = 0
        self._rejected = 0

    async def put(self, rejected: Sequence[tuple[Received, str]]) -> None:
        """Park messages, each with its reason. Raises `BrokerUnavailable`: then none is known to be parked."""
        if not rejected:
            return
        now = format_time(self._clock.now())
        await self._broker.publish([_parked(message, reason, now) for message, reason in rejected])
        for message, _ in rejected:
            metrics.DEAD_LETTERS.labels(message.topic).inc()

    def count(self, *, read: int, rejected: int) -> None:
        """Take note of a finished batch; raises `TooManyRejects` past the limit."""
        self._latest.append((read, rejected))
        self._read += read
        self._rejected += rejected
        while self._latest and self._read - self._latest[0][0] >= self._limit.among:
            old_read, old_rejected = self._latest.popleft()
            self._read -= old_read
            self._rejected -= old_rejected
        if self._is_flood():
            raise TooManyRejects(
                f"{self._rejected} of the latest {self._read} messages could not be processed. Stopped so that the topic "
                "does not drain into the dead letters: read the reasons with `labkeeper dead list`, mend the producer or "
                "this service, start again, and `labkeeper dead replay` what was parked."
            )

    def _is_flood(self) -> bool:
        """What is looked back on ends with a whole batch, so it may be longer than the limit says: the share decides as well."""
        limit = self._limit
        return self._rejected >= limit.rejects and self._rejected * limit.among >= limit.rejects * self._read


def _parked(message: Received, reason: str, now: str) -> Outgoing:
    return Outgoing(
        dead_letters_of(message.topic),
        message.key,
        message.value,
        {
            **message.headers,
            envelope.DEAD_REASON: reason[:_LONGEST_REASON],
            envelope.DEAD_TOPIC: message.topic,
            envelope.DEAD_PARTITION: str(message.partition),
            envelope.DEAD_OFFSET: str(message.offset),
            envelope.DEAD_TIME: now,
        },
    )
