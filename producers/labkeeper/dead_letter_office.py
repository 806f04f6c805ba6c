"""Reading, replaying and dropping dead letters on a broker.

A replay publishes the letter first and its marker second: a crash in between makes it be replayed once more, which the
services take, as they take every message that comes twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence

from pipeline.broker.protocol import Broker, Received
from pipeline.clock import Clock
from pipeline.command import CommandFailed, ExitCode
from producers.labkeeper.dead_letters import (
    Ledger,
    Letter,
    Name,
    Outcome,
    is_marker,
    letter_of,
    marker,
    name_of,
    original,
)
from schemas.topics import DEAD_SUFFIX, TOPICS, dead_letters_of

_PAGE = 200
_UNKNOWN = -1

WITH_LETTERS = tuple(
    topic.name.removesuffix(DEAD_SUFFIX) for topic in TOPICS if topic.name.endswith(DEAD_SUFFIX)
)
"""Topics whose consumers park what they cannot process."""


class DeadLetterOffice:
    """Looks after the dead letters of one broker, in the name of one person."""

    def __init__(self, broker: Broker, clock: Clock, *, who: str) -> None:
        self._broker = broker
        self._clock = clock
        self._who = who

    async def letters(self, topics: Collection[str] = WITH_LETTERS) -> list[Letter]:
        """All letters that are still kept, in order; also those that were dealt with."""
        found: list[Letter] = []
        for topic in topics:
            ledger = Ledger(topic)
            async for page in self._pages(topic, {}):
                ledger.add(page)
            found.extend(ledger.letters())
        return found

    async def message(self, name: Name) -> Received:
        """A letter with its value. Raises `CommandFailed` when there is none (any more)."""
        if name.topic in WITH_LETTERS:
            async for page in self._pages(name.topic, {name.partition: name.offset - 1}):
                for message in page:
                    if name_of(message) == name and not is_marker(message):
                        return message
                if any(_is_behind(message, name) for message in page):
                    break
        raise CommandFailed(f"there is no dead letter {name} (any more)", ExitCode.NOT_FOUND)

    async def drop(self, letters: Sequence[Letter], done: Callable[[Letter], None]) -> None:
        """Mark letters as dropped; `done` is called for each once it is safe."""
        for start in range(0, len(letters), _PAGE):
            await self._mark(letters[start : start + _PAGE], Outcome.DROPPED, done)

    async def replay(self, letters: Sequence[Letter], done: Callable[[Letter], None]) -> None:
        """Publish letters once more where they came from, in their order, and mark them."""
        for topic in {letter.name.topic: None for letter in letters}:
            wanted = {letter.name for letter in letters if letter.name.topic == topic}
            async for page in self._pages(topic, _before_the_first(wanted)):
                chosen = [message for message in page if name_of(message) in wanted]
                if chosen:
                    await self._broker.publish([original(message) for message in chosen])
                    await self._mark([letter_of(message) for message in chosen], Outcome.REPLAYED, done)
                    wanted -= {name_of(message) for message in chosen}
                if not wanted:
                    break

    async def _mark(
        self, letters: Sequence[Letter], outcome: Outcome, done: Callable[[Letter], None]
    ) -> None:
        now = self._clock.now()
        await self._broker.publish([marker(letter, outcome, who=self._who, now=now) for letter in letters])
        for letter in letters:
            done(letter)

    async def _pages(self, topic: str, after: dict[int, int]) -> AsyncIterator[Sequence[Received]]:
        position = dict(after)
        while page := await self._broker.fetch(dead_letters_of(topic), after=position, limit=_PAGE):
            yield page
            for message in page:
                position[message.partition] = max(position.get(message.partition, _UNKNOWN), message.offset)


def _before_the_first(names: Collection[Name]) -> dict[int, int]:
    """Positions just before the first of the letters in each partition."""
    first: dict[int, int] = {}
    for name in names:
        first[name.partition] = min(first.get(name.partition, name.offset), name.offset)
    return {partition: offset - 1 for partition, offset in first.items()}


def _is_behind(message: Received, name: Name) -> bool:
    return message.partition == name.partition and message.offset > name.offset
