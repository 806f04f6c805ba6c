"""Which dead letters there are, and which of them nobody has dealt with yet. Pure.

No topic can forget a single message. So what was done to a letter is a message as well: a marker on the same topic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, Self

from pipeline.broker.protocol import Outgoing, Received
from schemas import envelope
from schemas.topics import DEAD_SUFFIX, MACHINE_EVENTS, dead_letters_of
from schemas.wire import ZERO_TIME, format_time, parse_time

_NAME: Final = re.compile(
    r"(?:(?P<topic>[a-z][a-z0-9._-]{0,99})/)?(?P<partition>\d{1,9}):(?P<offset>\d{1,18})"
)
_PLACE: Final = re.compile(r"(\d{1,9}):(\d{1,18})")
_ADDED: Final = (
    envelope.DEAD_REASON,
    envelope.DEAD_TOPIC,
    envelope.DEAD_PARTITION,
    envelope.DEAD_OFFSET,
    envelope.DEAD_TIME,
)
"""Headers that parking added: a replay takes them off."""


class Outcome(StrEnum):
    """What was done to a letter."""

    REPLAYED = "replayed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """Names a letter: `partition:offset` on the dead-letter topic, with `<topic>/` in front unless it is of events."""

    topic: str
    """The topic that the letter was read from."""
    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The name that `str` writes; raises ValueError."""
        found = _NAME.fullmatch(text)
        if found is None:
            raise ValueError(
                f"{text!r} names no dead letter: expected one such as 0:17 or machine.changes/0:17"
            )
        return cls(found["topic"] or MACHINE_EVENTS, int(found["partition"]), int(found["offset"]))

    def __str__(self) -> str:
        place = f"{self.partition}:{self.offset}"
        return place if self.topic == MACHINE_EVENTS else f"{self.topic}/{place}"


@dataclass(frozen=True, slots=True)
class Handled:
    """That somebody dealt with a letter."""

    outcome: str
    """An `Outcome`, or what another version wrote."""
    who: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter without its value."""

    name: Name
    key: str
    """The machine id."""
    reason: str
    died_at: datetime
    """When it was parked."""
    source: str
    """Where it had been read, `<topic>/partition:offset`; empty when the headers do not say."""
    size: int
    """Bytes of the value."""
    handled: Handled | None = None


class Ledger:
    """Collects letters and markers of one topic."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._letters: dict[Name, Letter] = {}
        self._handled: dict[Name, Handled] = {}

    def add(self, messages: Sequence[Received]) -> None:
        """Take note of what was read from the dead-letter topic."""
        for message in messages:
            if is_marker(message):
                self._mark(message)
            else:
                letter = letter_of(message)
                self._letters[letter.name] = letter

    def _mark(self, message: Received) -> None:
        place = _PLACE.fullmatch(message.headers[envelope.DEAD_HANDLED])
        if place is not None:
            name = Name(self._topic, int(place[1]), int(place[2]))
            self._handled[name] = Handled(
                message.headers.get(envelope.DEAD_OUTCOME, ""),
                message.headers.get(envelope.DEAD_WHO, ""),
                _time(message),
            )

    def letters(self) -> Iterator[Letter]:
        """All letters, in order."""
        for name in sorted(self._letters):
            yield replace(self._letters[name], handled=self._handled.get(name))


def is_marker(message: Received) -> bool:
    """Whether a message of a dead-letter topic is no letter but says that one was dealt with.

    A producer may send any headers; but parking always adds a reason, and a marker has none.
    """
    return envelope.DEAD_HANDLED in message.headers and envelope.DEAD_REASON not in message.headers


def name_of(message: Received) -> Name:
    """The name of a letter that was read from its dead-letter topic."""
    return Name(message.topic.removesuffix(DEAD_SUFFIX), message.partition, message.offset)


def letter_of(message: Received) -> Letter:
    """What is worth knowing about a letter."""
    headers = message.headers
    place = (
        headers.get(envelope.DEAD_TOPIC),
        headers.get(envelope.DEAD_PARTITION),
        headers.get(envelope.DEAD_OFFSET),
    )
    return Letter(
        name=name_of(message),
        key=message.key,
        reason=headers.get(envelope.DEAD_REASON, "not told"),
        died_at=_time(message),
        source="{}/{}:{}".format(*place) if None not in place else "",
        size=len(message.value),
    )


def original(message: Received) -> Outgoing:
    """The message as it was before it was parked."""
    headers = {name: value for name, value in message.headers.items() if name not in _ADDED}
    return Outgoing(message.topic.removesuffix(DEAD_SUFFIX), message.key, message.value, headers)


def marker(letter: Letter, outcome: Outcome, *, who: str, now: datetime) -> Outgoing:
    """The message that says that the letter is dealt with."""
    return Outgoing(
        dead_letters_of(letter.name.topic),
        letter.key,
        b"",
        {
            envelope.DEAD_HANDLED: f"{letter.name.partition}:{letter.name.offset}",
            envelope.DEAD_OUTCOME: outcome.value,
            envelope.DEAD_WHO: who,
            envelope.DEAD_TIME: format_time(now),
        },
    )


def _time(message: Received) -> datetime:
    try:
        told = parse_time(message.headers.get(envelope.DEAD_TIME))
    except ValueError:
        return message.published_at
    return message.published_at if told == ZERO_TIME else told
